//! Lengths and counts that lie, and packets made to be read two ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use bytes::{BufMut, Bytes, BytesMut};
use chaperone_policy::Reason;
use chaperone_postgres::codec::{
    Backend, Cell, ErrorResponse, Frame, FrameError, Frontend, Initial, ProtocolError, Severity,
    Startup, StartupError, encode, frame, rewrite, startup,
};

fn framed(tag: u8, body: &[u8]) -> Frame {
    let mut out = BytesMut::new();
    encode::message(&mut out, tag, |out| out.extend_from_slice(body));
    Frame {
        tag,
        raw: out.freeze(),
    }
}

fn from_client(tag: u8, body: &[u8]) -> Result<String, ProtocolError> {
    Frontend::parse(&framed(tag, body)).map(|message| format!("{message:?}"))
}

fn from_server(tag: u8, body: &[u8]) -> Result<String, ProtocolError> {
    Backend::parse(framed(tag, body).as_ref()).map(|message| format!("{message:?}"))
}

#[test]
fn hostile_lengths_end_one_connection() {
    // Length fields: below 4, negative, the wrap-around of CVE-2024-27304, and over the cap.
    for length in [i32::MIN, -1, 0, 1, 3] {
        let mut buffer = BytesMut::new();
        buffer.put_u8(b'Q');
        buffer.put_i32(length);
        let error = frame::next(&mut buffer, 1 << 20).unwrap_err();
        assert_eq!(error, FrameError::TooShort { tag: b'Q', length });
        assert_eq!(error.reason(), Reason::ProtocolViolation);
    }
    for length in [(1 << 20) + 1, i32::MAX] {
        let mut buffer = BytesMut::new();
        buffer.put_u8(b'Q');
        buffer.put_i32(length);
        let capacity = buffer.capacity();
        let error = frame::next(&mut buffer, 1 << 20).unwrap_err();
        assert_eq!(
            error.reason(),
            Reason::LimitExceeded,
            "before the body has come"
        );
        assert_eq!(buffer.capacity(), capacity, "nothing was made ready for it");
    }
    let mut exact = BytesMut::from(&framed(b'd', &[0; 96]).raw[..]);
    assert!(frame::next(&mut exact.clone(), 99).is_err());
    assert!(frame::next(&mut exact, 100).unwrap().is_some());
}

#[test]
fn counts_and_lengths_within_a_message_are_checked_before_they_are_used() {
    let bind = |tail: &[u8]| from_client(b'B', &[b"\0\0", tail].concat());
    assert!(bind(&[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0]).is_ok());
    assert!(
        bind(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0]).is_ok(),
        "NULL"
    );
    for tail in [
        &[0xff, 0xff, 0, 0, 0, 0][..],               // 65535 formats in 4 bytes
        &[0, 0, 0xff, 0xff, 0, 0],                   // 65535 parameters in 2
        &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0], // length -2
        &[0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0],          // length -2^31
        &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0], // length 2^31-1
        &[0, 0, 0, 1, 0, 0, 0, 9, b'x', 0, 0],       // past the end
        &[0, 0, 0, 0, 0, 0, 0],                      // a byte too many
        &[0, 0, 0, 0, 0],                            // a byte too few
        &[0, 1, 0, 2, 0, 0, 0, 0],                   // format code 2
        &[0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], // 2 formats, 1 parameter
        &[0, 0, 0, 0, 0xff, 0xff],                   // 65535 result formats in 0
    ] {
        assert!(bind(tail).is_err(), "{tail:?}");
    }
    for (tag, body) in [
        (b'P', &b"\0select 1\0\xff\xff"[..]),
        (b'P', b"\0select 1\0\0\x01\0\0\0"),
        (b'P', b"\0select 1\0\0\0\0"),
        (b'P', b"name without end"),
        (b'Q', b"select 1"),
        (b'Q', b"select 1\0; drop table t\0"),
        (b'Q', b""),
        (b'Q', b"\xff\xfe\0"),
        (b'P', b"\xc3\0select 1\0\0\0"),
        (b'D', b"X\0"),
        (b'D', b"S"),
        (b'C', b"Pname\0x"),
        (b'E', b"\0\0\0\0"),
        (b'S', b"x"),
        (b'X', b"\0"),
        (b'H', b"\0"),
        (b'c', b"\0"),
        (b'f', b"no end"),
        (b'F', b"\0\0\0\x01\0\0\xff\xff\0\0"),
        (b'!', b""),
        (0, b""),
    ] {
        assert!(
            from_client(tag, body).is_err(),
            "{} {body:?}",
            char::from(tag)
        );
    }
    for (tag, body) in [
        (b'T', &[0xff, 0xff, 0][..]),
        (
            b'T',
            &[
                0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 9,
            ],
        ),
        (b'D', &[0xff, 0xff]),
        (b'D', &[0, 1, 0x7f, 0xff, 0xff, 0xff]),
        (b'D', &[0, 1, 0xff, 0xff, 0xff, 0xfe]),
        (b'D', &[0, 0, 0]),
        (b'D', &[0]),
        (b't', &[0xff, 0xff, 0, 0]),
        (b'Z', b"Q"),
        (b'Z', b""),
        (b'Z', b"II"),
        (b'K', &[0, 0, 0, 1, 0, 0, 0]),
        (b'K', &[0; 4 + 257]),
        (b'v', &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
        (b'v', &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        (b'R', &[0, 0, 0]),
        (b'R', &[0, 0, 0, 0, 0]),
        (b'R', &[0, 0, 0, 5, 1, 2, 3]),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0"),
        (b'E', b"Sno end"),
        (b'E', b"SERROR\0"),
        (b'E', b"SERROR\0\0x"),
        (b'G', &[2, 0, 0]),
        (b'H', &[0, 0xff, 0xff]),
        (b'C', b"SELECT 1"),
        (b'S', b"name\0"),
        (b'A', b"\0\0\0\x01c\0"),
        (b'1', b"x"),
        (b'9', b""),
    ] {
        assert!(
            from_server(tag, body).is_err(),
            "{} {body:?}",
            char::from(tag)
        );
    }
}

#[test]
fn a_row_that_cannot_be_rewritten_leaves_nothing_behind() {
    let mut out = BytesMut::from(&b"before"[..]);
    let mut scratch = Vec::new();
    for body in [
        &[0, 2, 0, 0, 0, 1, b'x', 0, 0, 0, 5][..],
        &[0, 1, 0, 0, 0, 0, 0],
        &[1],
        &[0, 1, 0xff, 0xff, 0xff, 0xfd],
    ] {
        let row = framed(b'D', body);
        let result = rewrite(&row.raw, &mut out, &mut scratch, |_, _, _| Cell::Null);
        assert!(result.is_err(), "{body:?}");
        assert_eq!(&out[..], b"before");
    }
    assert!(
        rewrite(
            &framed(b'T', &[0, 0]).raw,
            &mut out,
            &mut scratch,
            |_, _, _| Cell::Keep
        )
        .is_err()
    );
    assert!(rewrite(b"", &mut out, &mut scratch, |_, _, _| Cell::Keep).is_err());
}

fn packet(code: u32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(8 + body.len()).unwrap());
    out.put_u32(code);
    out.extend_from_slice(body);
    out
}

fn open(body: &[u8]) -> Result<Startup, StartupError> {
    match startup::next(&mut packet(0x0003_0000, body))?.unwrap() {
        Initial::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_before_the_answer_to_an_encryption_request_end_the_connection() {
    for code in [80_877_103, 80_877_104] {
        assert!(startup::next(&mut packet(code, b"")).unwrap().is_some());
        let mut stuffed = packet(code, b"");
        stuffed.extend_from_slice(&packet(0x0003_0000, b"user\0evil\0\0"));
        assert_eq!(
            startup::next(&mut stuffed),
            Err(StartupError::BytesBeforeEncryption)
        );
        assert!(startup::next(&mut packet(code, b"x")).is_err());
    }
}

#[test]
fn a_startup_packet_has_one_reading() {
    let startup =
        open(b"user\0ann\0database\0shop\0DateStyle\0ISO\0options\0-c statement_timeout=5s\0\0")
            .unwrap();
    assert_eq!(
        (startup.user.as_str(), startup.database.as_deref()),
        ("ann", Some("shop"))
    );
    assert_eq!(
        startup.settings,
        [("datestyle", "ISO"), ("statement_timeout", "5s")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    assert!(!startup.needs_negotiation());
    let refused = |body: &[u8]| open(body).unwrap_err();
    assert!(matches!(
        refused(b"user\0a\0user\0b\0\0"),
        StartupError::Duplicate { .. }
    ));
    assert!(matches!(
        refused(b"user\0a\0search_path\0x\0SEARCH_PATH\0y\0\0"),
        StartupError::Duplicate { .. }
    ));
    assert!(matches!(
        refused(b"user\0a\0USER\0b\0\0"),
        StartupError::Duplicate { .. }
    ));
    assert!(matches!(refused(b"USER\0a\0\0"), StartupError::Name { .. }));
    for value in ["true", "false", "database", "0"] {
        let body = format!("user\0a\0replication\0{value}\0\0");
        assert_eq!(refused(body.as_bytes()), StartupError::Replication);
    }
    assert_eq!(refused(b"database\0a\0\0"), StartupError::NoUser);
    assert_eq!(refused(b"\0"), StartupError::NoUser);
    for body in [
        &b"user\0a\0"[..],
        b"user\0a",
        b"user\0a\0\0x",
        b"user\0\xff\0\0",
        b"",
    ] {
        assert!(
            matches!(refused(body), StartupError::Malformed(_)),
            "{body:?}"
        );
    }
    assert!(matches!(
        refused(b"user\0a\0a;b\0c\0\0"),
        StartupError::Name { .. }
    ));
    // Decided on as a setting, it would reach the server as an option of the protocol.
    for body in [
        &b"user\0a\0_Pq_.x\0a\0\0"[..],
        b"user\0a\0options\0-c _pq_.x=1\0\0",
        b"user\0a\0options\0--_PQ_.x=1\0\0",
    ] {
        assert!(matches!(refused(body), StartupError::Name { .. }));
    }
    for length in [i32::MIN, -1, 0, 7, 10_001, i32::MAX] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        assert_eq!(
            startup::next(&mut buffer),
            Err(StartupError::Length { length })
        );
    }
}

#[test]
fn options_are_settings_or_nothing() {
    let options = |text: &str| open(format!("user\0a\0options\0{text}\0\0").as_bytes());
    let settings = |text: &str| {
        let settings = options(text).unwrap().settings;
        settings
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(settings("-c a=b"), ["a=b"]);
    assert_eq!(
        settings("  -ca=b\t--Work-Mem=4MB\n-c  my.Thing=\\ x\\\\y "),
        ["a=b", "work_mem=4MB", "my.thing= x\\y"]
    );
    assert_eq!(settings("-c search_path=a\\ b\\"), ["search_path=a b"]);
    assert_eq!(settings("-c a=b=c"), ["a=b=c"]);
    assert_eq!(
        settings("-c a=b -c a=c"),
        ["a=b", "a=c"],
        "both are decided on"
    );
    assert_eq!(settings(""), [""; 0]);
    for text in [
        "-c", "-c a", "--a", "--", "-d 5", "-fs", "a=b", "-c a=b x", "-c =b", "--=b", "-c a;b=c",
        "\\-", "-",
    ] {
        assert!(options(text).is_err(), "{text}");
    }
}

#[test]
fn versions_are_negotiated_down_and_unknown_ones_refused() {
    let body = b"user\0a\0_pq_.novel\0on\0\0";
    let Ok(Some(Initial::Startup(new))) = startup::next(&mut packet(0x0003_0063, body)) else {
        panic!("3.99 is taken down, not refused")
    };
    assert!(new.needs_negotiation());
    assert_eq!(new.version.negotiated().minor, 2);
    assert!(new.version.long_cancel_keys());
    assert_eq!(new.protocol_options, ["_pq_.novel"]);
    let mut out = BytesMut::new();
    encode::negotiate_protocol_version(&mut out, 2, &new.protocol_options);
    let frame = frame::next(&mut out, 1000).unwrap().unwrap();
    let Backend::NegotiateProtocolVersion { minor: 2, options } =
        Backend::parse(frame.as_ref()).unwrap()
    else {
        panic!("{frame:?}")
    };
    assert_eq!(options, ["_pq_.novel"]);
    for version in [0x0002_0000, 0x0004_0000, 0, 0x4745_5420] {
        let error = startup::next(&mut packet(version, body)).unwrap_err();
        assert!(matches!(error, StartupError::Version { .. }), "{error}");
    }
}

#[test]
fn cancel_keys_have_the_lengths_of_their_protocol() {
    for length in [4, 32, 256] {
        let key = vec![7u8; length];
        let mut request = BytesMut::from(&encode::cancel_request(42, &key)[..]);
        let Ok(Some(Initial::Cancel(cancel))) = startup::next(&mut request) else {
            panic!("a key of {length} bytes")
        };
        assert_eq!((cancel.pid, cancel.key), (42, Bytes::from(key)));
    }
    for length in [0, 3, 257] {
        let mut request = BytesMut::from(&encode::cancel_request(42, &vec![7u8; length])[..]);
        assert!(startup::next(&mut request).is_err(), "{length}");
    }
}

#[test]
fn our_own_messages_carry_no_second_field() {
    let error = ErrorResponse::new(Severity::Error, "42501", "denied\0CXX000")
        .detail("rule no-delete")
        .hint("ask");
    let mut out = BytesMut::from(&error.to_bytes()[..]);
    let frame = frame::next(&mut out, 1000).unwrap().unwrap();
    let Backend::ErrorResponse(fields) = Backend::parse(frame.as_ref()).unwrap() else {
        panic!("{frame:?}")
    };
    assert_eq!(fields.message(), "denied");
    assert_eq!(fields.code(), "42501");
    assert_eq!(fields.severity(), "ERROR");
    assert!(!fields.is_fatal());
    assert_eq!(fields.fields.len(), 6);
    let mut stripped = BytesMut::new();
    fields.rewrite(b'E', &mut stripped, |kind, value| {
        (kind != b'D').then_some(value.into())
    });
    let frame = frame::next(&mut stripped, 1000).unwrap().unwrap();
    let Backend::ErrorResponse(fields) = Backend::parse(frame.as_ref()).unwrap() else {
        panic!("{frame:?}")
    };
    assert_eq!(fields.get(b'D'), None);
    assert_eq!(fields.text(b'H'), "ask");
}
