//! A TCP relay that records what crosses it, and can cut it to pieces on the way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the one who connected.
    ToServer,
    /// Back.
    ToClient,
}

/// Called with each piece before it is passed on.
pub type Hook = dyn Fn(Direction, &[u8]) + Send + Sync;

/// How pieces are passed on.
#[derive(Clone)]
enum Manner {
    AsTheyCome,
    Hooked(Arc<Hook>),
    /// Written in pieces of the given lengths, over and over.
    Cut(Arc<[usize]>),
}

/// One connection's bytes, both ways.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// From the one who connected.
    pub to_server: Vec<u8>,
    /// Back.
    pub to_client: Vec<u8>,
}

/// A running relay; its threads end with the connections and the process.
pub struct Relay {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Mutex<Recorded>>>>>,
}

impl Relay {
    /// Passes bytes on as they come.
    pub fn to(port: u16) -> Result<Relay> {
        Relay::start(port, Manner::AsTheyCome)
    }

    /// Calls `hook` with each piece before it goes on.
    pub fn hooked(
        port: u16,
        hook: impl Fn(Direction, &[u8]) + Send + Sync + 'static,
    ) -> Result<Relay> {
        Relay::start(port, Manner::Hooked(Arc::new(hook)))
    }

    /// Cuts every stream into writes of `lengths`, over and over.
    pub fn cutting(port: u16, lengths: &[usize]) -> Result<Relay> {
        Relay::start(port, Manner::Cut(lengths.into()))
    }

    fn start(target: u16, manner: Manner) -> Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let connections: Arc<Mutex<Vec<Arc<Mutex<Recorded>>>>> = Arc::default();
        let all = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let recorded: Arc<Mutex<Recorded>> = Arc::default();
                locked(&all).push(Arc::clone(&recorded));
                let _ = join(client, server, &manner, &recorded);
            }
        });
        Ok(Relay { port, connections })
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every connection so far, in order.
    pub fn connections(&self) -> Vec<Recorded> {
        locked(&self.connections)
            .iter()
            .map(|one| locked(one).clone())
            .collect()
    }

    /// Whether `text` has crossed it in that direction, in any connection.
    pub fn saw(&self, direction: Direction, text: &str) -> bool {
        self.connections().iter().any(|one| {
            let bytes = match direction {
                Direction::ToServer => &one.to_server,
                Direction::ToClient => &one.to_client,
            };
            find(bytes, text.as_bytes()).is_some()
        })
    }
}

fn join(
    client: TcpStream,
    server: TcpStream,
    manner: &Manner,
    recorded: &Arc<Mutex<Recorded>>,
) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    for (from, to, direction) in [
        (
            client.try_clone()?,
            server.try_clone()?,
            Direction::ToServer,
        ),
        (server, client, Direction::ToClient),
    ] {
        let (manner, recorded) = (manner.clone(), Arc::clone(recorded));
        thread::spawn(move || pump(from, to, direction, &manner, &recorded));
    }
    Ok(())
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    direction: Direction,
    manner: &Manner,
    recorded: &Mutex<Recorded>,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut cuts = 0_usize;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let mut piece = buffer.get(..read).unwrap_or_default();
        {
            let mut recorded = locked(recorded);
            match direction {
                Direction::ToServer => recorded.to_server.extend_from_slice(piece),
                Direction::ToClient => recorded.to_client.extend_from_slice(piece),
            }
        }
        if let Manner::Hooked(hook) = manner {
            hook(direction, piece);
        }
        while !piece.is_empty() {
            let length = match manner {
                Manner::Cut(lengths) => {
                    cuts = cuts.wrapping_add(1);
                    lengths
                        .get(cuts % lengths.len().max(1))
                        .copied()
                        .unwrap_or(1)
                        .max(1)
                }
                _ => piece.len(),
            };
            let (now, later) = piece.split_at(length.min(piece.len()));
            if to.write_all(now).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            piece = later;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where `needle` first occurs in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
