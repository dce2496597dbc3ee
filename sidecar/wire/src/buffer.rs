//! A read buffer that cannot outgrow its cap.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes received and not yet taken. Memory follows what has arrived, never what a length field
/// promises; an idle connection holds [`ReadBuffer::INITIAL`] bytes at most.
#[derive(Debug)]
pub struct ReadBuffer {
    bytes: BytesMut,
    cap: usize,
    // How much room the next read is given: doubles while reads fill it, falls back when they don't.
    chunk: usize,
}

impl ReadBuffer {
    /// Bytes of room for the first read.
    pub const INITIAL: usize = 8 * 1024;
    /// Bytes of room for one read at most; what a busy stream grows to.
    pub const MAX_CHUNK: usize = 128 * 1024;

    /// An empty buffer that never holds more than `cap` bytes. Nothing is allocated yet.
    pub fn new(cap: usize) -> ReadBuffer {
        ReadBuffer {
            bytes: BytesMut::new(),
            cap,
            chunk: Self::INITIAL,
        }
    }

    /// Reads what is there, at least one byte, and gives the number of bytes; 0 is the end of the
    /// stream. Cancel-safe: a dropped call has taken nothing.
    ///
    /// # Errors
    /// The stream's own, and `InvalidData` when the buffer already holds its cap: the caller's
    /// frame limit must be below the cap.
    pub async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<usize> {
        let room = self.cap.saturating_sub(self.bytes.len());
        if room == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the read buffer is full without a whole frame in it",
            ));
        }
        let wanted = self.chunk.min(room);
        self.bytes.reserve(wanted);
        let read = reader
            .read_buf(&mut (&mut self.bytes).limit(wanted))
            .await?;
        if read == wanted {
            self.chunk = self.chunk.saturating_mul(2).min(Self::MAX_CHUNK);
        } else if read < self.chunk / 4 {
            self.chunk = (self.chunk / 2).max(Self::INITIAL);
        }
        Ok(read)
    }

    /// Lets go of memory that a burst needed. Call it when the connection turns idle; it does
    /// nothing while bytes are waiting.
    pub fn shrink(&mut self) {
        self.chunk = Self::INITIAL;
        if self.bytes.is_empty() && self.bytes.capacity() > Self::INITIAL {
            self.bytes = BytesMut::new();
        }
    }

    /// The buffer itself, for a codec to split frames off its front.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// What has been received and not taken.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes received and not taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The most bytes it will hold.
    pub fn cap(&self) -> usize {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_read_buffer_never_outgrows_its_cap() {
        let mut source: &[u8] = &[7u8; 100_000];
        let mut buffer = ReadBuffer::new(20_000);
        let mut total = 0;
        while buffer.len() < 20_000 {
            total += buffer.fill(&mut source).await.unwrap();
        }
        assert_eq!(total, 20_000);
        assert_eq!(
            buffer.fill(&mut source).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(source.len(), 80_000);
    }

    #[tokio::test]
    async fn a_burst_gives_its_memory_back() {
        let data = vec![1u8; 4 << 20];
        let mut source: &[u8] = &data;
        let mut buffer = ReadBuffer::new(16 << 20);
        while buffer.fill(&mut source).await.unwrap() > 0 {}
        assert_eq!(buffer.as_slice(), &data[..]);
        buffer.shrink();
        assert_eq!(
            buffer.len(),
            data.len(),
            "bytes that wait are never dropped"
        );
        buffer.bytes_mut().clear();
        buffer.shrink();
        assert!(buffer.bytes.capacity() <= ReadBuffer::INITIAL);
    }

    #[tokio::test]
    async fn a_cancelled_fill_loses_nothing() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut buffer = ReadBuffer::new(1024);
        tokio::select! {
            biased;
            _ = buffer.fill(&mut far) => unreachable!("nothing was sent"),
            () = std::future::ready(()) => {}
        }
        near.write_all(b"whole").await.unwrap();
        assert_eq!(buffer.fill(&mut far).await.unwrap(), 5);
        assert_eq!(buffer.as_slice(), b"whole");
        drop(near);
        assert_eq!(buffer.fill(&mut far).await.unwrap(), 0);
    }
}
