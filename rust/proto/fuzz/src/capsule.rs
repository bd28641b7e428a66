//! Capsules: any cut gives the same, each bound holds, what was read can be written and read again.

use bytes::Bytes;
use wt_proto::capsule::{Capsule, CapsuleParser, MAX_REASON};
use wt_proto::error::StreamError;
use wt_proto::error_code::Code;

use crate::{all_equal, cuts, encoded};

/// `data` is the capsule stream, that is, the payload of DATA frames.
pub fn check(data: &[u8]) {
    for flow_control in [false, true] {
        let (capsules, end) = all_equal(cuts(data).map(|pieces| read(flow_control, pieces)));
        let payload: usize = capsules.iter().map(payload_len).sum();
        assert!(
            payload <= data.len(),
            "{payload} bytes of payload out of {}",
            data.len()
        );
        assert!(flow_control || !capsules.iter().any(is_flow_control));
        // §6: nothing follows WT_CLOSE_SESSION.
        let close = capsules
            .iter()
            .position(|capsule| matches!(capsule, Capsule::Close { .. }));
        assert!(close.is_none_or(|at| at + 1 == capsules.len()), "{capsules:?}");
        assert!(close.is_none() || end.is_ok() || end.is_err_and(|error| error.code == Code::H3_MESSAGE_ERROR));
        let again = encoded(|out| capsules.iter().for_each(|capsule| capsule.encode(out)));
        assert_eq!(read(flow_control, vec![again]), (capsules, Ok(())), "after {end:?}");
    }
}

fn read(flow_control: bool, pieces: Vec<Bytes>) -> (Vec<Capsule>, Result<(), StreamError>) {
    let mut parser = CapsuleParser::new(flow_control);
    let mut capsules = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(capsule)) => capsules.push(capsule),
                Ok(None) => break,
                Err(error) => {
                    parser.push(Bytes::from_static(b"\x00\x00"));
                    assert_eq!((parser.next(), parser.finish()), (Err(error), Err(error)));
                    return (capsules, Err(error));
                }
            }
        }
    }
    (capsules, parser.finish())
}

fn payload_len(capsule: &Capsule) -> usize {
    match capsule {
        Capsule::Close { reason, .. } => {
            assert!(reason.len() <= MAX_REASON);
            4 + reason.len()
        }
        Capsule::Datagram(payload) => {
            assert!(payload.len() <= 65535);
            payload.len()
        }
        Capsule::Drain => 0,
        _ => 1,
    }
}

fn is_flow_control(capsule: &Capsule) -> bool {
    !matches!(capsule, Capsule::Close { .. } | Capsule::Drain | Capsule::Datagram(_))
}
