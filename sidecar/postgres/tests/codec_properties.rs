//! Any bytes at all: no panic, no allocation beyond the input, and rows that say what they said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use bytes::{BufMut, BytesMut};
use chaperone_postgres::codec::{
    Backend, Cell, DataRow, Frame, Frontend, Initial, Part, TransactionStatus, command_rows,
    encode, frame, frontend, rewrite, startup, startup_options,
};
use proptest::prelude::*;

/// One of each message that has fields, from both sides.
fn corpus() -> Vec<BytesMut> {
    let mut messages = Vec::new();
    let mut add = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        messages.push(out);
    };
    add(&|out| encode::query(out, "select 1; select 'ü'"));
    add(&|out| encode::parse(out, "s1", "select $1::int"));
    add(&|out| encode::describe(out, Part::Statement, "s1"));
    add(&|out| {
        encode::message(out, b'B', |out| {
            out.extend_from_slice(
                b"p\0s1\0\0\x02\0\x01\0\0\0\x02\0\0\0\x04abcd\xff\xff\xff\xff\0\x01\0\x01",
            );
        })
    });
    add(&|out| encode::message(out, b'E', |out| out.extend_from_slice(b"p\0\0\0\0\x05")));
    add(&|out| {
        encode::message(out, b'F', |out| {
            out.extend_from_slice(b"\0\0\0\x09\0\x01\0\0\0\x01\0\0\0\x01x\0\0");
        })
    });
    add(&|out| encode::copy_fail(out, "no"));
    add(&|out| encode::ready_for_query(out, TransactionStatus::Failed));
    add(&|out| encode::parameter_status(out, "TimeZone", "UTC"));
    add(&|out| encode::backend_key_data(out, 7, &[1; 32]));
    add(&|out| encode::command_complete(out, "INSERT 0 1"));
    add(&|out| encode::negotiate_protocol_version(out, 2, &["_pq_.a".to_owned()]));
    add(&|out| {
        encode::message(out, b'T', |out| {
            out.extend_from_slice(
                b"\0\x01id\0\0\0\x40\x05\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
            );
        })
    });
    add(&|out| {
        encode::message(out, b'D', |out| {
            out.extend_from_slice(b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0");
        })
    });
    add(&|out| {
        encode::message(out, b'E', |out| {
            out.extend_from_slice(b"SERROR\0C42501\0Mno\0\0")
        })
    });
    add(&|out| {
        encode::message(out, b'R', |out| {
            out.extend_from_slice(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        })
    });
    add(&|out| encode::message(out, b't', |out| out.extend_from_slice(b"\0\x01\0\0\0\x17")));
    add(&|out| encode::message(out, b'H', |out| out.extend_from_slice(b"\0\0\x02\0\0\0\0")));
    add(&|out| {
        encode::message(out, b'A', |out| {
            out.extend_from_slice(b"\0\0\0\x07c\0payload\0")
        })
    });
    add(&|out| encode::startup(out, [("user", "a"), ("options", "-c a=b --c-d=e")]));
    add(&|out| out.extend_from_slice(&encode::cancel_request(9, &[1, 2, 3, 4])));
    add(&|out| encode::ssl_request(out));
    messages
}

/// What a hostile peer does to a message.
#[derive(Debug, Clone)]
enum Mutation {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Word(usize, u32),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let word = prop_oneof![
        Just(0u32),
        Just(0xffff_ffff),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0xffff_0000),
        Just(3),
        Just(4),
        any::<u32>()
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        (any::<usize>(), word).prop_map(|(at, word)| Mutation::Word(at, word)),
        (any::<usize>(), 1usize..40).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match *mutation {
        Mutation::Set(at, byte) => bytes[at % length] = byte,
        Mutation::Cut(at) => bytes.truncate(at % length),
        Mutation::Insert(at, byte) => bytes.insert(at % length, byte),
        Mutation::Word(at, word) => {
            for (offset, byte) in word.to_be_bytes().into_iter().enumerate() {
                if let Some(slot) = bytes.get_mut(at % length + offset) {
                    *slot = byte;
                }
            }
        }
        Mutation::Repeat(at, count) => {
            let byte = bytes[at % length];
            bytes.extend(std::iter::repeat_n(byte, count));
        }
    }
}

/// Reads `bytes` as everything they could be, and checks what was made of them against the input.
fn read_as_everything(bytes: &[u8]) {
    let _ = startup::next(&mut BytesMut::from(bytes)).map(|initial| match initial {
        Some(Initial::Startup(startup)) => {
            let said: usize = startup
                .settings
                .iter()
                .map(|(n, v)| n.len() + v.len())
                .sum();
            assert!(said <= bytes.len());
        }
        Some(Initial::Cancel(cancel)) => assert!(cancel.key.len() <= bytes.len()),
        _ => {}
    });
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = startup_options::parse(text);
        let _ = command_rows(text);
    }
    let _ = frame::header(bytes);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(whole)) = frame::next(&mut buffer, bytes.len()) {
        read_frame(&whole);
    }
    // And under every type byte there is, whatever the length field says.
    for tag in 0..=127u8 {
        let mut out = BytesMut::new();
        encode::message(&mut out, tag, |out| out.extend_from_slice(bytes));
        read_frame(&Frame {
            tag,
            raw: out.freeze(),
        });
    }
}

fn read_frame(whole: &Frame) {
    let room = whole.body().len();
    match Frontend::parse(whole) {
        Ok(Frontend::Bind(bind)) => {
            assert!(bind.parameters.capacity() <= room / 4 + 4);
            assert!(bind.parameter_formats.capacity() <= room / 2 + 8);
            for parameter in &bind.parameters {
                let slice = &whole.raw[parameter.range.clone()];
                assert_eq!(parameter.value.as_deref().unwrap_or_default(), slice);
            }
        }
        Ok(Frontend::Parse {
            parameter_types, ..
        }) => {
            assert!(parameter_types.capacity() <= room / 4 + 4);
        }
        _ => {}
    }
    match Backend::parse(whole.as_ref()) {
        Ok(Backend::RowDescription(row)) => assert!(row.fields.capacity() <= room / 19 + 1),
        Ok(Backend::ParameterDescription(types)) => assert!(types.capacity() <= room / 4 + 4),
        Ok(Backend::DataRow(row)) => {
            assert_eq!(row.cells().count(), row.len());
            let values: usize = row.cells().flatten().map(<[u8]>::len).sum();
            assert_eq!(values + 2 + 4 * row.len(), room);
        }
        _ => {}
    }
    let mut out = BytesMut::new();
    let _ = rewrite(&whole.raw, &mut out, &mut Vec::new(), |_, _, _| Cell::Null);
    assert!(out.len() <= whole.raw.len() * 2 + 16);
}

fn row(cells: &[Option<Vec<u8>>]) -> BytesMut {
    let mut out = BytesMut::new();
    encode::message(&mut out, b'D', |out| {
        out.put_u16(u16::try_from(cells.len()).unwrap());
        for cell in cells {
            match cell {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_i32(i32::try_from(value.len()).unwrap());
                    out.extend_from_slice(value);
                }
            }
        }
    });
    out
}

fn cell() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_messages_never_panic_or_allocate_beyond_their_bytes(
        index in any::<prop::sample::Index>(),
        mutations in proptest::collection::vec(mutation(), 0..5),
    ) {
        let corpus = corpus();
        let mut bytes = index.get(&corpus).to_vec();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        read_as_everything(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn a_rewritten_row_differs_in_its_replaced_cells_only(
        cells in proptest::collection::vec((cell(), 0u8..3, proptest::collection::vec(any::<u8>(), 0..30)), 0..12),
        before in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let original: Vec<_> = cells.iter().map(|(value, _, _)| value.clone()).collect();
        let expected: Vec<_> = cells
            .iter()
            .map(|(value, action, new)| match action {
                0 => value.clone(),
                1 => None,
                _ => Some(new.clone()),
            })
            .collect();
        let mut out = BytesMut::from(&before[..]);
        let changed = rewrite(&row(&original), &mut out, &mut Vec::new(), |index, value, scratch| {
            assert_eq!(value, original[index].as_deref());
            assert!(scratch.is_empty());
            match cells[index].1 {
                0 => Cell::Keep,
                1 => Cell::Null,
                _ => {
                    scratch.extend_from_slice(&cells[index].2);
                    Cell::Replace
                }
            }
        })
        .unwrap();
        prop_assert_eq!(changed, cells.iter().any(|(_, action, _)| *action != 0));
        prop_assert_eq!(&out[..before.len()], &before[..]);
        prop_assert_eq!(&out[before.len()..], &row(&expected)[..]);
        let body = &out[before.len() + frame::HEADER..];
        let read: Vec<_> = DataRow::parse(body).unwrap().cells().map(|c| c.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn bound_parameters_are_where_their_ranges_say(
        values in proptest::collection::vec(cell(), 0..10),
        portal in "[a-z]{0,8}",
    ) {
        let mut out = BytesMut::new();
        encode::message(&mut out, frontend::tag::BIND, |out| {
            encode::cstr(out, portal.as_bytes());
            encode::cstr(out, b"statement");
            out.put_u16(0);
            out.extend_from_slice(&row(&values)[frame::HEADER..]);
            out.put_u16(0);
        });
        let whole = frame::next(&mut out, 1 << 20).unwrap().unwrap();
        let Frontend::Bind(bind) = Frontend::parse(&whole).unwrap() else { panic!("{whole:?}") };
        prop_assert_eq!(bind.portal, portal);
        let read: Vec<_> = bind.parameters.iter().map(|p| p.value.as_ref().map(|v| v.to_vec())).collect();
        prop_assert_eq!(read, values);
        for parameter in &bind.parameters {
            prop_assert_eq!(&whole.raw[parameter.range.clone()], parameter.value.as_deref().unwrap_or_default());
        }
    }
}
