//! A PostgreSQL client that sends exactly the bytes a test wants. It checks nothing that it sends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

/// Fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// Messages up to and including a ReadyForQuery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply(pub Vec<Message>);

impl Reply {
    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.with(b'D').map(row).collect()
    }

    /// The only column of the only row.
    pub fn value(&self) -> Option<String> {
        self.rows().first()?.first()?.clone()
    }

    pub fn errors(&self) -> Vec<Report> {
        self.with(b'E').map(report).collect()
    }

    /// The only error.
    #[track_caller]
    pub fn error(&self) -> Report {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:?} in {}", self.tags());
        errors[0].clone()
    }

    /// The only error, which must be ours and give this reason.
    #[track_caller]
    pub fn refused(&self, reason: &str) -> Report {
        let error = self.error();
        assert!(
            error.detail.contains(&format!("reason: {reason}")),
            "no {reason} in {error:?}"
        );
        error
    }

    pub fn notices(&self) -> Vec<Report> {
        self.with(b'N').map(report).collect()
    }

    pub fn commands(&self) -> Vec<String> {
        self.with(b'C')
            .map(|body| text(body.split(|b| *b == 0).next().unwrap()))
            .collect()
    }

    /// The transaction state of the last ReadyForQuery.
    pub fn state(&self) -> Option<char> {
        self.with(b'Z').last().map(|body| char::from(body[0]))
    }

    /// The type bytes in order, without notices, notifications and parameter reports.
    pub fn tags(&self) -> String {
        self.0
            .iter()
            .filter(|m| !matches!(m.tag, b'N' | b'S' | b'A'))
            .map(|m| char::from(m.tag))
            .collect()
    }

    /// Fails if there is an error in it.
    #[track_caller]
    pub fn ok(self) -> Reply {
        assert!(self.errors().is_empty(), "{:?}", self.errors());
        self
    }

    /// Every byte of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|m| m.body.clone()).collect()
    }

    /// Whether these bytes are anywhere in it.
    pub fn holds(&self, needle: &str) -> bool {
        let bytes = self.bytes();
        bytes
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    }

    fn with(&self, tag: u8) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .filter(move |message| message.tag == tag)
            .map(|message| message.body.as_slice())
    }
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    /// Process id and secret for a CancelRequest.
    pub key: Vec<u8>,
    pub greeting: Reply,
}

impl Client {
    pub fn dial(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            key: Vec::new(),
            greeting: Reply::default(),
        }
    }

    /// Logs in and must be let in.
    #[track_caller]
    pub fn connect(port: u16, user: &str, database: &str) -> Client {
        let client = Client::attempt(port, &[("user", user), ("database", database)]);
        assert!(
            client.greeting.errors().is_empty(),
            "{:?}",
            client.greeting.errors()
        );
        client
    }

    /// Logs in and keeps what was answered.
    pub fn attempt(port: u16, parameters: &[(&str, &str)]) -> Client {
        let mut client = Client::dial(port);
        client.send(&startup(parameters));
        client.greeting = client.until_ready_or_end();
        let key = client.greeting.with(b'K').next().map(<[u8]>::to_vec);
        client.key = key.unwrap_or_default();
        client
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// A second handle on the same socket, to write from another thread.
    pub fn socket(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// A simple Query and its whole reply.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Reply {
        self.exchange(&query(sql))
    }

    /// Bytes and the reply up to the next ReadyForQuery.
    #[track_caller]
    pub fn exchange(&mut self, bytes: &[u8]) -> Reply {
        self.send(bytes);
        self.until_ready()
    }

    /// The next message; `None` at the end of the stream.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Message> {
        let mut head = [0_u8; 5];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) => match error.kind() {
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted => return None,
                _ => panic!("no answer came: {error}"),
            },
        }
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
        let mut body = vec![0_u8; length - 4];
        self.stream.read_exact(&mut body).unwrap();
        Some(Message { tag: head[0], body })
    }

    /// Reads up to a ReadyForQuery; the end of the stream fails.
    #[track_caller]
    pub fn until_ready(&mut self) -> Reply {
        let reply = self.until_ready_or_end();
        assert!(
            reply.state().is_some(),
            "the connection ended after {:?}, {}",
            reply.errors(),
            reply.tags()
        );
        reply
    }

    #[track_caller]
    pub fn until_ready_or_end(&mut self) -> Reply {
        let mut reply = Reply::default();
        while let Some(message) = self.receive() {
            let ready = message.tag == b'Z';
            reply.0.push(message);
            if ready {
                break;
            }
        }
        reply
    }

    /// Reads up to a message of type `tag`.
    #[track_caller]
    pub fn until(&mut self, tag: u8) -> Reply {
        let mut reply = Reply::default();
        loop {
            let message = self
                .receive()
                .unwrap_or_else(|| panic!("ended before {}", char::from(tag)));
            let found = message.tag == tag;
            reply.0.push(message);
            if found {
                return reply;
            }
        }
    }

    /// Reads to the end of the stream.
    pub fn until_end(&mut self) -> Reply {
        let mut reply = Reply::default();
        while let Some(message) = self.receive() {
            reply.0.push(message);
        }
        reply
    }

    /// Terminate, and wait until the other side has closed.
    pub fn close(mut self) {
        self.send(&message(b'X', &[]));
        self.until_end();
    }
}

/// Asks for cancellation with `key`, and waits until the server has closed.
pub fn cancel(port: u16, key: &[u8]) {
    let mut client = Client::dial(port);
    let length = u32::try_from(8 + key.len()).unwrap();
    client.send(
        &[
            &length.to_be_bytes()[..],
            &80_877_102_u32.to_be_bytes(),
            key,
        ]
        .concat(),
    );
    client.until_end();
}

/// StartupMessage, protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstring(name));
        body.extend(cstring(value));
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [length.to_be_bytes().to_vec(), body].concat()
}

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &cstring(sql))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[cstring(name), cstring(sql), vec![0, 0]].concat())
}

/// Bind with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let values: Vec<Option<&[u8]>> = parameters.iter().map(|p| p.map(str::as_bytes)).collect();
    bind_as(portal, statement, 0, &values)
}

/// Bind with parameters all in `format` (0 text, 1 binary) and text results.
pub fn bind_as(
    portal: &str,
    statement: &str,
    format: u16,
    parameters: &[Option<&[u8]>],
) -> Vec<u8> {
    let mut body = [cstring(portal), cstring(statement)].concat();
    body.extend([0, 1]);
    body.extend(format.to_be_bytes());
    body.extend(u16::try_from(parameters.len()).unwrap().to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(*value);
            }
        }
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// Describe of a portal (`P`) or statement (`S`).
pub fn describe(what: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![what], cstring(name)].concat())
}

/// Close of a portal (`P`) or statement (`S`).
pub fn close(what: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![what], cstring(name)].concat())
}

/// Execute; `limit` 0 is all rows.
pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    message(
        b'E',
        &[cstring(portal), limit.to_be_bytes().to_vec()].concat(),
    )
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// Parse, Bind, Execute of the unnamed statement, without Sync.
pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), execute("", 0)].concat()
}

fn cstring(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(body: &[u8]) -> Report {
    let mut report = Report::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, value)) = field.split_first() else {
            continue;
        };
        let value = text(value);
        match kind {
            b'C' => report.code = value,
            b'M' => report.message = value,
            b'D' => report.detail = value,
            b'H' => report.hint = value,
            _ => {}
        }
    }
    report
}

fn row(mut body: &[u8]) -> Vec<Option<String>> {
    let mut take = |count: usize| -> &[u8] {
        let (now, later) = body.split_at(count);
        body = later;
        now
    };
    let columns = u16::from_be_bytes(take(2).try_into().unwrap());
    (0..columns)
        .map(|_| {
            let length = i32::from_be_bytes(take(4).try_into().unwrap());
            usize::try_from(length)
                .ok()
                .map(|length| text(take(length)))
        })
        .collect()
}
