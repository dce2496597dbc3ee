//! A PostgreSQL client that sends exactly the bytes a test wants (PostgreSQL documentation,
//! chapter "Frontend/Backend Protocol"). It checks nothing that it sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::DEADLINE;

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// The fields of an ErrorResponse or NoticeResponse that tests look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// `ERROR`, `FATAL`, `NOTICE`, never localised.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// DETAIL.
    pub detail: String,
    /// HINT.
    pub hint: String,
}

impl Report {
    /// Message, detail and hint together.
    pub fn text(&self) -> String {
        format!("{} {} {}", self.message, self.detail, self.hint)
    }
}

/// Messages up to and including a ReadyForQuery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply(pub Vec<Message>);

/// A row in text format; `None` is NULL.
pub type Row = Vec<Option<String>>;

impl Reply {
    /// All that the messages say.
    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|message| String::from_utf8_lossy(&message.body))
            .collect()
    }

    /// All data rows.
    pub fn rows(&self) -> Vec<Row> {
        self.with(b'D').filter_map(row).collect()
    }

    /// The only column of the only row.
    pub fn value(&self) -> Option<String> {
        self.rows().into_iter().next()?.into_iter().next()?
    }

    /// Every error.
    pub fn errors(&self) -> Vec<Report> {
        self.with(b'E').map(report).collect()
    }

    /// The only error.
    pub fn error(&self) -> Result<Report> {
        let mut errors = self.errors();
        ensure!(
            errors.len() == 1,
            "expected one error, got {errors:?} in {}",
            self.tags()
        );
        errors.pop().context("no error")
    }

    /// Every notice.
    pub fn notices(&self) -> Vec<Report> {
        self.with(b'N').map(report).collect()
    }

    /// The command tags: `SELECT 1`, `DELETE 3`.
    pub fn commands(&self) -> Vec<String> {
        self.with(b'C')
            .map(|body| text(body.split(|b| *b == 0).next().unwrap_or_default()))
            .collect()
    }

    /// The transaction state of the ReadyForQuery: `I`, `T`, `E`.
    pub fn state(&self) -> Option<char> {
        self.with(b'Z')
            .last()?
            .first()
            .map(|byte| char::from(*byte))
    }

    /// The type bytes in order, without notices and parameter reports: `TDCZ`.
    pub fn tags(&self) -> String {
        self.0
            .iter()
            .filter(|m| !matches!(m.tag, b'N' | b'S'))
            .map(|m| char::from(m.tag))
            .collect()
    }

    /// Fails if there is an error in it.
    pub fn ok(self) -> Result<Reply> {
        match self.errors().first() {
            Some(error) => bail!("the server said {error:?}"),
            None => Ok(self),
        }
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
    /// What the server said while it let us in.
    pub greeting: Reply,
}

impl Client {
    /// How long a read may take from here on.
    pub fn set_timeout(&self, timeout: std::time::Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(timeout))?)
    }

    /// Opens a socket and says nothing.
    pub fn dial(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Client {
            stream,
            key: Vec::new(),
            greeting: Reply::default(),
        })
    }

    /// Logs in; an ErrorResponse is an error here.
    pub fn connect(port: u16, database: &str) -> Result<Client> {
        let mut client = Client::dial(port)?;
        client.send(&startup(&[("user", "agent"), ("database", database)]))?;
        client.greet()?;
        match client.greeting.errors().first() {
            Some(error) => bail!("not let in: {error:?}"),
            None => Ok(client),
        }
    }

    /// Logs in to a server itself, past the sidecar, as the role that its pg_hba.conf asks for a
    /// plain password; [`server::Database::direct`] makes it.
    ///
    /// [`server::Database::direct`]: crate::server::Database::direct
    pub fn direct(port: u16, role: &str, password: &str, database: &str) -> Result<Client> {
        let mut client = Client::dial(port)?;
        client.send(&startup(&[
            ("user", role),
            ("database", database),
            ("client_encoding", "UTF8"),
        ]))?;
        client.until(b'R')?;
        client.send(&message(b'p', &cstring(password)))?;
        client.greet()?;
        match client.greeting.errors().first() {
            Some(error) => bail!("not let in: {error:?}"),
            None => Ok(client),
        }
    }

    /// Logs in with other startup parameters and gives what the server answered.
    pub fn attempt(port: u16, parameters: &[(&str, &str)]) -> Result<Client> {
        let mut client = Client::dial(port)?;
        client.send(&startup(parameters))?;
        client.greet()?;
        Ok(client)
    }

    fn greet(&mut self) -> Result<()> {
        self.greeting = self.until_ready_or_end()?;
        let key = self.greeting.with(b'K').next().map(<[u8]>::to_vec);
        self.key = key.unwrap_or_default();
        Ok(())
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends nothing more.
    pub fn finish_sending(&mut self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// A simple Query and its whole reply.
    pub fn query(&mut self, sql: &str) -> Result<Reply> {
        self.send(&query(sql))?;
        self.until_ready()
    }

    /// Bytes and the reply up to the next ReadyForQuery.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<Reply> {
        self.send(bytes)?;
        self.until_ready()
    }

    /// The next message; `None` at the end of the stream.
    pub fn receive(&mut self) -> Result<Option<Message>> {
        let mut head = [0_u8; 5];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if ended(&error) => return Ok(None),
            Err(error) => return Err(error).context("waiting for the server"),
        }
        let [tag, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        let mut body = vec![0_u8; length.checked_sub(4).context("a length below 4")?];
        self.stream
            .read_exact(&mut body)
            .context("in the middle of a message")?;
        Ok(Some(Message { tag, body }))
    }

    /// Reads up to a ReadyForQuery; the end of the stream is an error.
    pub fn until_ready(&mut self) -> Result<Reply> {
        let reply = self.until_ready_or_end()?;
        ensure!(
            reply.state().is_some(),
            "the connection ended after {:?}, {}",
            reply.errors(),
            reply.tags()
        );
        Ok(reply)
    }

    /// Reads up to a ReadyForQuery or the end of the stream.
    pub fn until_ready_or_end(&mut self) -> Result<Reply> {
        let mut reply = Reply::default();
        while let Some(message) = self.receive()? {
            let ready = message.tag == b'Z';
            reply.0.push(message);
            if ready {
                break;
            }
        }
        Ok(reply)
    }

    /// Reads up to a message of type `tag`.
    pub fn until(&mut self, tag: u8) -> Result<Reply> {
        let mut reply = Reply::default();
        loop {
            let message = self
                .receive()?
                .with_context(|| format!("ended before {}", char::from(tag)))?;
            let found = message.tag == tag;
            reply.0.push(message);
            if found {
                return Ok(reply);
            }
        }
    }

    /// Reads to the end of the stream.
    pub fn to_end(&mut self) -> Result<Reply> {
        let mut reply = Reply::default();
        while let Some(message) = self.receive()? {
            reply.0.push(message);
        }
        Ok(reply)
    }

    /// Terminate, and wait until the other side has closed.
    pub fn close(mut self) -> Result<()> {
        self.send(&message(b'X', &[]))?;
        self.to_end().map(|_| ())
    }
}

fn ended(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted
    )
}

/// Asks for cancellation with `key`, and waits until the server has closed.
pub fn cancel(port: u16, key: &[u8]) -> Result<()> {
    let mut client = Client::dial(port)?;
    let length = u32::try_from(8 + key.len())?;
    client.send(
        &[
            &length.to_be_bytes()[..],
            &80_877_102_u32.to_be_bytes(),
            key,
        ]
        .concat(),
    )?;
    client.to_end().map(|_| ())
}

/// StartupMessage, protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstring(name));
        body.extend(cstring(value));
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().to_vec(), body].concat()
}

/// A message of type `tag`.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &cstring(sql))
}

/// Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[cstring(name), cstring(sql), vec![0, 0]].concat())
}

/// Bind with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = [cstring(portal), cstring(statement), vec![0, 0]].concat();
    body.extend(
        u16::try_from(parameters.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    for parameter in parameters {
        match parameter {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
                body.extend(value.as_bytes());
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

/// Execute; `limit` 0 is all rows.
pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    message(
        b'E',
        &[cstring(portal), limit.to_be_bytes().to_vec()].concat(),
    )
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Parse, Bind, Describe, Execute of an unnamed statement, without Sync.
pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [
        parse("", sql),
        bind("", "", parameters),
        describe(b'P', ""),
        execute("", 0),
    ]
    .concat()
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
            b'V' => report.severity = value,
            b'C' => report.code = value,
            b'M' => report.message = value,
            b'D' => report.detail = value,
            b'H' => report.hint = value,
            _ => {}
        }
    }
    report
}

fn row(mut body: &[u8]) -> Option<Row> {
    let mut take = |count: usize| -> Option<&[u8]> {
        let (now, later) = body.split_at_checked(count)?;
        body = later;
        Some(now)
    };
    let columns = u16::from_be_bytes(take(2)?.try_into().ok()?);
    let mut row = Vec::new();
    for _ in 0..columns {
        let length = i32::from_be_bytes(take(4)?.try_into().ok()?);
        row.push(match usize::try_from(length) {
            Ok(length) => Some(text(take(length)?)),
            Err(_) => None,
        });
    }
    Some(row)
}
