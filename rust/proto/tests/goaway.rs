//! This side's GOAWAY.

mod common;

use bytes::Bytes;
use common::hex;
use wt_proto::control::{ControlEvent, PeerStreams};
use wt_proto::dialect::Role;
use wt_proto::goaway::LocalGoaway;

#[test]
fn a_server_names_the_first_request_that_it_does_not_process() {
    for (requests, frame) in [
        (&[][..], "07 01 00"),
        (&[0], "07 01 04"),
        (&[8, 0], "07 01 0c"),
        (&[0, 4, 4096], "07 02 50 04"),
    ] {
        let mut goaway = LocalGoaway::new(Role::Server);
        assert!(requests.iter().all(|id| goaway.admit_request(*id)));
        assert_eq!(goaway.send(), Some(Bytes::from(hex(frame))), "after {requests:?}");
    }
}

#[test]
fn nothing_is_processed_after_it() {
    let mut goaway = LocalGoaway::new(Role::Server);
    assert!(goaway.admit_request(4));
    assert_eq!(goaway.sent(), None);
    goaway.send();
    for id in [0, 8, 12] {
        assert!(!goaway.admit_request(id));
    }
    assert_eq!(goaway.sent(), Some(8));
}

#[test]
fn it_is_sent_once_so_that_its_id_cannot_grow() {
    for role in [Role::Server, Role::Client] {
        let mut goaway = LocalGoaway::new(role);
        assert!(goaway.send().is_some());
        goaway.admit_request(400);
        assert_eq!(goaway.send(), None);
    }
}

#[test]
fn the_peer_takes_it() {
    for (role, peer) in [(Role::Server, Role::Client), (Role::Client, Role::Server)] {
        let mut goaway = LocalGoaway::new(role);
        goaway.admit_request(0);
        let id = if role == Role::Server { 4 } else { 0 };
        let mut streams = PeerStreams::new(peer);
        let mut bytes = hex("04 00");
        bytes.extend(goaway.send().expect("the first"));
        let events = streams.handle_control(bytes.into()).expect("valid");
        assert_eq!(events[1..], [ControlEvent::Goaway(id)]);
    }
}
