//! Frames out of any bytes.

use bytes::BytesMut;
use chaperone_postgres::codec::{Frame, FrameError, frame};

/// As large as a client's may be.
const LIMIT: usize = 16 << 20;
/// Cuts tried in one input.
const CUTS: usize = 24;

/// The frames of `data`, which came at once; they are its bytes, in order.
pub(crate) fn frames(data: &[u8]) -> Vec<Frame> {
    let (frames, end) = taken(&[data]);
    let mut rest = data;
    for frame in &frames {
        assert!(rest.starts_with(&frame.raw), "a frame is not what came");
        assert_eq!(Some(&frame.tag), rest.first());
        rest = rest.get(frame.raw.len()..).unwrap_or_default();
    }
    for at in cuts(data.len()) {
        let (before, after) = data.split_at_checked(at).unwrap_or((data, &[]));
        assert_eq!(
            taken(&[before, after]),
            (frames.clone(), end),
            "cut at {at}"
        );
    }
    frames
}

/// Places to cut an input of this length at: all of a short one, some of a long one.
pub(crate) fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by((length / CUTS).max(1))
}

fn taken(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match frame::next(&mut buffer, LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
