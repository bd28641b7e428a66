//! The sending half towards a peer that is late with its acknowledgements: what goes first, and when it has arrived.
//!
//! The peer is polled by the test's own thread. As long as the test does not wait, nothing is acknowledged, and no more
//! than the initial congestion window goes out.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    Net, Peer, both_drivers, pattern,
    raw::{RawClient, quinn_code},
};
use wt_io::{
    proto::error_code::Code,
    send_stream::{SendState, SendStream},
};

both_drivers!(
    a_stream_of_higher_priority_goes_first,
    a_priority_counts_for_what_was_written_before_it,
    a_finished_stream_has_ended_when_all_of_it_is_acknowledged,
);

async fn a_stream_of_higher_priority_goes_first(net: Net) {
    overtaken(net, |_low, high| high.set_priority(i32::MAX)).await;
}

async fn a_priority_counts_for_what_was_written_before_it(net: Net) {
    overtaken(net, |low, _high| low.set_priority(-1)).await;
}

/// With equal priorities the stream that was written to first would end first.
async fn overtaken(net: Net, prioritise: impl FnOnce(&SendStream, &SendStream)) {
    let (_connect, raw, server) = connected(&net).await;
    let data = pattern(1 << 20);
    let low = server.open_uni().await;
    let high = server.open_uni().await;
    for stream in [&low, &high] {
        stream.write(&data, true).expect("room for all");
    }
    prioritise(&low, &high);
    let mut streams = BTreeMap::new();
    while streams.len() < 3 {
        // The third is the server's control stream.
        let stream = raw.quic.accept_uni().await.expect("open");
        streams.insert(quinn::VarInt::from(stream.id()).into_inner(), stream);
    }
    let mut first = streams.remove(&high.id()).expect("it was opened");
    let mut second = streams.remove(&low.id()).expect("it was opened");
    let all = first.read_to_end(data.len() + 16).await.expect("no reset");
    assert!(all.ends_with(&data));
    second
        .stop(quinn_code(Code::H3_REQUEST_CANCELLED))
        .expect("not ended before");
    // The end of the other had not been sent: its stop found something to stop.
    server.event_loop().until(low.ended(), || has_ended(&low)).await;
    assert_eq!(low.state(), SendState::Stopped);
    drop((low, high, server));
    raw.finish().await;
}

async fn a_finished_stream_has_ended_when_all_of_it_is_acknowledged(net: Net) {
    let (_connect, raw, server) = connected(&net).await;
    let send = server.open_uni().await;
    send.write(&pattern(100_000), true).expect("room for all");
    while send.state() < SendState::Sent {
        // Not a wait of the runtime's: the peer must not run.
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((send.state(), has_ended(&send)), (SendState::Sent, None));
    server.event_loop().until(send.ended(), || has_ended(&send)).await;
    assert_eq!((send.state(), send.end()), (SendState::Acknowledged, None));
    drop((send, server));
    raw.finish().await;
}

/// A session: its CONNECT stream is the first part.
async fn connected(net: &Net) -> ((quinn::SendStream, quinn::RecvStream), RawClient, Peer) {
    let raw = RawClient::ready(net).await;
    let connect = raw.request().await;
    let server = raw.listener.accept().await;
    (connect, raw, server)
}

fn has_ended(send: &Arc<SendStream>) -> Option<()> {
    (send.state() > SendState::Sent).then_some(())
}
