//! What must hold for wt-proto whatever comes from the wire, in whatever order: one module per fuzz target.
//!
//! A property panics when it does not hold. Those that read bytes take them as they stand on the wire, so that the files of
//! `corpus/` are captures and vectors; how the bytes are cut follows from the bytes themselves. Those about events take a
//! list of them, which the crate `arbitrary` makes of the fuzzer's bytes.
//!
//! Memory is bounded from outside: `run` gives the process so little address space that an allocation by an announced
//! length ends it.

pub mod capsule;
pub mod connection;
pub mod datagram;
pub mod error_code;
pub mod flow_control;
pub mod frame;
pub mod headers;
pub mod http;
pub mod origin;
pub mod registry;
pub mod session;
pub mod settings;
pub mod stream_header;
pub mod structured_field;

use bytes::{Bytes, BytesMut};

/// The ways in which the bytes of a stream arrive: whole, one by one, and in pieces of every size, empty ones included.
pub(crate) fn cuts(data: &[u8]) -> [Vec<Bytes>; 3] {
    let whole = Bytes::copy_from_slice(data);
    let bytewise = (0..data.len()).map(|at| whole.slice(at..=at)).collect();
    let mut pieces = Vec::new();
    let mut rest = whole.clone();
    // FNV-1a: sizes that differ from input to input and are the same at each replay.
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = (state >> 60).pow(if state >> 59 & 1 == 1 { 2 } else { 1 });
        pieces.push(rest.split_to(rest.len().min(size as usize)));
    }
    [vec![whole], bytewise, pieces]
}

/// What an encoder appends.
pub(crate) fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

/// Asserts that all are equal, and gives one of them.
pub(crate) fn all_equal<T: PartialEq + std::fmt::Debug>(values: impl IntoIterator<Item = T>) -> T {
    let mut values = values.into_iter();
    let first = values.next().expect("at least one");
    for other in values {
        assert_eq!(other, first, "the cut makes a difference");
    }
    first
}
