//! One session against hand-made bytes.

mod common;

use bytes::Bytes;
use common::{MAX_SECTION, data, encoded, events, headers, hex, request, tlv, transmits};
use wt_proto::capsule::{self, Capsule};
use wt_proto::dialect::Dialect;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::{Code, to_http};
use wt_proto::headers::{ConnectRequest, HeaderList, Response};
use wt_proto::session::{CloseCause, CloseInfo, Initiator, Session, SessionEvent, State, Transmit};

const CLOSE_7_BYE: &str = "68 43 07 00 00 00 07 62 79 65";

fn request_frame(dialect: Dialect) -> Vec<u8> {
    encoded(|out| request(dialect).encode_frame(out))
}

fn response_frame(status: u16) -> Vec<u8> {
    encoded(|out| Response::new(status, HeaderList::new()).encode_frame(out))
}

fn feed(session: &mut Session, bytes: &[u8]) {
    session
        .handle_data(Bytes::copy_from_slice(bytes))
        .expect("no connection error");
}

/// A client whose request is sent.
fn client() -> Session {
    let mut session = Session::client(4, &request(Dialect::D15), MAX_SECTION);
    transmits(&mut session);
    session
}

/// A client with an open session.
fn open_client() -> Session {
    let mut session = client();
    feed(&mut session, &response_frame(200));
    events(&mut session);
    session
}

/// A server that has its request.
fn server() -> Session {
    let mut session = Session::server(4, MAX_SECTION);
    feed(&mut session, &request_frame(Dialect::D15));
    events(&mut session);
    session
}

/// A server with an open session.
fn open_server() -> Session {
    let mut session = server();
    session.accept(Dialect::D15, HeaderList::new());
    transmits(&mut session);
    session
}

fn info(code: u32, reason: &str, by: Initiator, cause: CloseCause) -> CloseInfo {
    CloseInfo {
        code,
        reason: reason.to_owned(),
        by,
        cause,
    }
}

fn closed(code: u32, reason: &str, by: Initiator) -> SessionEvent {
    SessionEvent::Closed(info(code, reason, by, CloseCause::Closed))
}

/// The verdict among the events.
fn verdict(session: &mut Session) -> CloseInfo {
    let mut verdicts = events(session).into_iter().filter_map(|event| match event {
        SessionEvent::Closed(info) => Some(info),
        _ => None,
    });
    let verdict = verdicts.next().expect("a verdict");
    assert_eq!(verdicts.next(), None);
    assert_eq!(session.close_info(), Some(&verdict));
    verdict
}

fn assert_failed(session: &mut Session, code: Code) {
    let CloseCause::Protocol(error) = verdict(session).cause else {
        panic!("a protocol error")
    };
    assert_eq!(error.code, code);
    assert!(transmits(session).ends_with(&[Transmit::Reset(code), Transmit::Stop(code)]));
    assert_eq!(session.state(), State::Closed);
}

// Establishment.

#[test]
fn a_client_sends_its_request_at_once() {
    let mut session = Session::client(4, &request(Dialect::D15), MAX_SECTION);
    assert_eq!(
        transmits(&mut session),
        [Transmit::Data(request_frame(Dialect::D15).into())]
    );
    assert_eq!((session.id(), session.state()), (4, State::Connecting));
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_request_is_told_when_its_last_byte_is_there() {
    let frame = request_frame(Dialect::D15);
    let mut session = Session::server(4, MAX_SECTION);
    let (last, start) = frame.split_last().expect("bytes");
    feed(&mut session, start);
    assert_eq!(events(&mut session), []);
    feed(&mut session, &[*last]);
    assert_eq!(events(&mut session), [SessionEvent::Request(request(Dialect::D15))]);
}

#[test]
fn interim_responses_are_skipped() {
    let mut session = client();
    feed(
        &mut session,
        &[response_frame(100), response_frame(103), response_frame(200)].concat(),
    );
    assert_eq!(
        events(&mut session),
        [SessionEvent::Established(Response::new(200, HeaderList::new()))]
    );
    assert_eq!(session.state(), State::Open);
}

#[test]
fn a_client_of_draft_02_gets_its_response_header() {
    let answer = |session: &mut Session| {
        let Some(Transmit::Data(bytes)) = session.poll_transmit() else {
            panic!("a response")
        };
        let mut client = client();
        feed(&mut client, &bytes);
        let Some(SessionEvent::Established(response)) = client.poll_event() else {
            panic!("established")
        };
        response.headers
    };
    let mut session = Session::server(0, MAX_SECTION);
    feed(&mut session, &request_frame(Dialect::D02));
    session.accept(Dialect::D02, headers(&[("x", "1")]));
    assert_eq!(
        answer(&mut session),
        headers(&[("x", "1"), ("sec-webtransport-http3-draft", "draft02")])
    );

    let mut session = server();
    session.accept(Dialect::D15, HeaderList::new());
    assert_eq!(answer(&mut session), HeaderList::new());
}

#[test]
fn capsules_before_the_answer_wait_for_it() {
    let mut session = server();
    let grease = tlv(0x29 + 0x17, b"grease");
    feed(
        &mut session,
        &data(&[grease, tlv(0x00, b"early"), hex("80 00 78")].concat()),
    );
    feed(&mut session, &data(&hex("ae 00")));
    assert_eq!(events(&mut session), []);
    session.accept(Dialect::D15, HeaderList::new());
    let early = SessionEvent::Datagram(Bytes::from_static(b"early"));
    assert_eq!(events(&mut session), [early, SessionEvent::Draining]);
    assert_eq!(session.state(), State::Draining);
}

#[test]
fn capsules_before_a_rejection_are_dropped() {
    let mut session = server();
    feed(&mut session, &data(&hex(CLOSE_7_BYE)));
    session.reject(404, HeaderList::new());
    let cause = CloseCause::Rejected { status: 404 };
    assert_eq!(
        verdict(&mut session),
        info(0, "HTTP status 404", Initiator::Local, cause)
    );
}

#[test]
fn too_many_capsules_before_the_answer_end_the_stream() {
    let mut session = server();
    feed(&mut session, &data(&vec![0x21; 65536]));
    assert_eq!(events(&mut session), []);
    feed(&mut session, &data(&[0]));
    assert_failed(&mut session, Code::H3_EXCESSIVE_LOAD);
}

#[test]
fn a_close_that_came_early_is_heard_on_accept() {
    let mut session = server();
    feed(&mut session, &data(&hex(CLOSE_7_BYE)));
    session.accept(Dialect::D15, HeaderList::new());
    assert_eq!(events(&mut session), [closed(7, "bye", Initiator::Peer)]);
}

#[test]
fn a_fin_before_the_answer_ends_the_session() {
    let mut session = server();
    session.handle_fin().expect("between frames");
    assert_eq!(
        events(&mut session),
        [closed(0, "", Initiator::Peer), SessionEvent::Finished]
    );
    session.accept(Dialect::D15, HeaderList::new());
    session.reject(404, HeaderList::new());
    assert_eq!(transmits(&mut session), [Transmit::Reset(Code::H3_REQUEST_CANCELLED)]);
}

#[test]
fn a_fin_before_the_response_is_incomplete() {
    let mut session = client();
    session.handle_fin().expect("between frames");
    let CloseCause::Protocol(error) = verdict(&mut session).cause else {
        panic!("a protocol error")
    };
    assert_eq!(error.code, Code::H3_REQUEST_INCOMPLETE);
    assert_eq!(transmits(&mut session), [Transmit::Reset(Code::H3_REQUEST_INCOMPLETE)]);
}

#[test]
fn a_fin_before_the_request_is_incomplete() {
    let mut session = Session::server(0, MAX_SECTION);
    session.handle_fin().expect("between frames");
    let CloseCause::Protocol(error) = verdict(&mut session).cause else {
        panic!("a protocol error")
    };
    assert_eq!(error.code, Code::H3_REQUEST_INCOMPLETE);
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    for status in [301, 403, 404, 429, 503] {
        let mut session = client();
        feed(&mut session, &[response_frame(status), data(b"go away")].concat());
        let expected = info(
            0,
            &format!("HTTP status {status}"),
            Initiator::Peer,
            CloseCause::Rejected { status },
        );
        assert_eq!(
            events(&mut session),
            [
                SessionEvent::Refused(Response::new(status, HeaderList::new())),
                SessionEvent::Closed(expected),
                SessionEvent::Finished
            ]
        );
        assert_eq!(
            transmits(&mut session),
            [Transmit::Finish, Transmit::Stop(Code::H3_REQUEST_CANCELLED)]
        );
        assert_eq!(session.state(), State::Closed);
    }
}

#[test]
fn a_malformed_message_never_reaches_the_application() {
    // A field section that holds ":status: 200" alone: no request, and for a client it would be fine.
    let mut session = Session::server(0, MAX_SECTION);
    feed(&mut session, &tlv(0x01, &hex("00 00 d9")));
    assert_failed(&mut session, Code::H3_MESSAGE_ERROR);
    let mut session = client();
    feed(&mut session, &tlv(0x01, &hex("00 00")));
    assert_failed(&mut session, Code::H3_MESSAGE_ERROR);
}

#[test]
fn a_response_with_other_content_opens_no_session() {
    for status in [204, 205, 206] {
        let mut session = client();
        feed(&mut session, &response_frame(status));
        assert_failed(&mut session, Code::H3_MESSAGE_ERROR);
    }
    // RFC 9204 appendix A: entry 25 is ":status: 200", 4 "content-length: 0", 53 "content-type: text/plain".
    for section in ["00 00 d9 c4", "00 00 d9 f5"] {
        let mut session = client();
        feed(&mut session, &tlv(0x01, &hex(section)));
        assert_failed(&mut session, Code::H3_MESSAGE_ERROR);
    }
    // A refusal may have content.
    let mut session = client();
    let refusal = Response::new(404, headers(&[("content-length", "5"), ("content-type", "text/plain")]));
    feed(&mut session, &encoded(|out| refusal.encode_frame(out)));
    assert_eq!(verdict(&mut session).cause, CloseCause::Rejected { status: 404 });
}

#[test]
fn a_large_header_ends_the_stream() {
    let mut session = Session::server(0, 100);
    feed(&mut session, &request_frame(Dialect::D15));
    assert_failed(&mut session, Code::H3_EXCESSIVE_LOAD);
}

// Requests for something else.

#[test]
fn other_requests_are_passed_on_and_their_bodies_ignored() {
    let mut session = Session::server(0, MAX_SECTION);
    let mut websocket = request(Dialect::D15);
    websocket.protocol = "websocket".to_owned();
    feed(&mut session, &encoded(|out| websocket.encode_frame(out)));
    let protocol = Some("websocket".to_owned());
    assert_eq!(events(&mut session), [SessionEvent::Foreign { protocol }]);
    session.accept(Dialect::D15, HeaderList::new());
    assert_eq!(session.state(), State::Connecting, "only WebTransport is accepted");
    feed(&mut session, &data(b"body"));
    session.handle_fin().expect("ignored");
    assert_eq!(events(&mut session), []);
    session.reject(501, HeaderList::new());
    assert_eq!(
        transmits(&mut session),
        [Transmit::Data(response_frame(501).into()), Transmit::Finish]
    );
    assert!(matches!(
        events(&mut session)[..],
        [SessionEvent::Closed(_), SessionEvent::Finished]
    ));
}

#[test]
fn bytes_after_a_rejection_are_ignored() {
    let mut session = server();
    session.reject(404, HeaderList::new());
    feed(&mut session, &hex("02 00 40 41 ff"));
    assert!(matches!(events(&mut session)[..], [SessionEvent::Closed(_)]));
    session.handle_fin().expect("ignored");
    assert_eq!(events(&mut session), [SessionEvent::Finished]);
    assert_eq!(transmits(&mut session).len(), 2, "response and FIN, no STOP_SENDING");
}

// Frames out of order.

#[test]
fn frames_out_of_order_end_the_connection() {
    let data_first: fn() -> Session = || Session::server(0, MAX_SECTION);
    let cases = [
        (data_first(), data(b"x"), Code::H3_FRAME_UNEXPECTED),
        (client(), data(b"x"), Code::H3_FRAME_UNEXPECTED),
        (server(), request_frame(Dialect::D15), Code::H3_FRAME_UNEXPECTED),
        (open_server(), request_frame(Dialect::D15), Code::H3_FRAME_UNEXPECTED),
        (open_client(), response_frame(200), Code::H3_FRAME_UNEXPECTED),
        (open_client(), hex("04 00"), Code::H3_FRAME_UNEXPECTED),
        (open_client(), hex("05 01 00"), Code::H3_ID_ERROR),
        (open_server(), hex("05 01 00"), Code::H3_FRAME_UNEXPECTED),
        (open_client(), hex("40 41 00"), Code::H3_FRAME_ERROR),
        (client(), tlv(0x01, &hex("01 00 d9")), Code::QPACK_DECOMPRESSION_FAILED),
    ];
    for (mut session, bytes, code) in cases {
        let error = session.handle_data(bytes.into()).expect_err("a connection error");
        assert_eq!(error.code, code);
        session.handle_connection_lost(error.to_string(), Some(code.0), Initiator::Local);
        assert_eq!(verdict(&mut session).cause, CloseCause::ConnectionLost);
    }
}

#[test]
fn a_fin_inside_a_frame_ends_the_connection() {
    for mut session in [client(), server(), open_client(), open_server()] {
        feed(&mut session, &hex("21 05 00"));
        let ConnectionError { code, .. } = session.handle_fin().expect_err("a connection error");
        assert_eq!(code, Code::H3_FRAME_ERROR);
    }
}

#[test]
fn unknown_frames_are_ignored_while_open() {
    let mut session = open_client();
    feed(&mut session, &tlv(0x1f * 9 + 0x21, b"grease"));
    assert_eq!((events(&mut session), session.state()), (vec![], State::Open));
}

// The peer ends it.

#[test]
fn a_close_is_answered_with_a_fin() {
    let mut session = open_server();
    feed(&mut session, &data(&hex(CLOSE_7_BYE)));
    assert_eq!(events(&mut session), [closed(7, "bye", Initiator::Peer)]);
    assert_eq!(transmits(&mut session), [Transmit::Finish]);
    assert_eq!(session.state(), State::Closed);
    session.handle_fin().expect("between frames");
    assert_eq!(events(&mut session), [SessionEvent::Finished]);
    assert_eq!(transmits(&mut session), []);
}

#[test]
fn bytes_after_a_close_are_malformed_but_the_close_counts() {
    let close = data(&hex(CLOSE_7_BYE));
    let grease = tlv(0x21, &[]);
    for (first, second) in [
        ([close.clone(), data(b"")].concat(), vec![]),
        (close.clone(), data(b"x")),
        (close.clone(), grease.clone()),
        ([close, grease].concat(), vec![]),
        (data(&[hex(CLOSE_7_BYE), vec![0]].concat()), vec![]),
        (data(&[hex(CLOSE_7_BYE), vec![0; 50]].concat())[..14].to_vec(), vec![0]),
    ] {
        let mut session = open_client();
        feed(&mut session, &first);
        feed(&mut session, &second);
        assert_eq!(
            verdict(&mut session),
            info(7, "bye", Initiator::Peer, CloseCause::Closed)
        );
        let error = Code::H3_MESSAGE_ERROR;
        assert_eq!(transmits(&mut session), [Transmit::Reset(error), Transmit::Stop(error)]);
    }
}

#[test]
fn a_clean_fin_is_code_zero() {
    let mut session = open_server();
    session.handle_fin().expect("between frames");
    assert_eq!(
        events(&mut session),
        [closed(0, "", Initiator::Peer), SessionEvent::Finished]
    );
    assert_eq!(transmits(&mut session), [Transmit::Finish]);
}

#[test]
fn a_malformed_capsule_ends_the_session() {
    let mut session = open_client();
    feed(&mut session, &data(&tlv(0x2843, &[1])));
    assert_failed(&mut session, Code::H3_MESSAGE_ERROR);
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_fin_inside_a_capsule_ends_the_session() {
    let mut session = open_client();
    feed(&mut session, &data(&hex("68 43 07 00 00")));
    session.handle_fin().expect("between frames");
    let CloseCause::Protocol(error) = verdict(&mut session).cause else {
        panic!("a protocol error")
    };
    assert_eq!(error.code, Code::H3_MESSAGE_ERROR);
    assert_eq!(transmits(&mut session), [Transmit::Reset(Code::H3_MESSAGE_ERROR)]);
}

#[test]
fn a_reset_ends_the_session_in_any_state() {
    for mut session in [client(), server(), open_client(), open_server()] {
        session.handle_reset(to_http(9));
        let verdict = verdict(&mut session);
        assert_eq!((verdict.code, verdict.by), (9, Initiator::Peer));
        assert_eq!(verdict.cause, CloseCause::Reset(to_http(9)));
        assert_eq!(transmits(&mut session), [Transmit::Reset(Code::H3_REQUEST_CANCELLED)]);
    }
}

#[test]
fn a_stop_ends_an_open_session() {
    for mut session in [open_client(), open_server(), server()] {
        session.handle_stopped(Code::H3_REQUEST_CANCELLED);
        assert_eq!(
            verdict(&mut session).cause,
            CloseCause::Reset(Code::H3_REQUEST_CANCELLED)
        );
        assert_eq!(session.state(), State::Closed);
        let code = Code::H3_REQUEST_CANCELLED;
        assert_eq!(transmits(&mut session), [Transmit::Stop(code), Transmit::Reset(code)]);
    }
}

#[test]
fn a_server_may_stop_the_request_and_still_answer() {
    let mut session = client();
    session.handle_stopped(Code::H3_NO_ERROR);
    assert_eq!(events(&mut session), []);
    feed(&mut session, &response_frame(404));
    assert_eq!(verdict(&mut session).cause, CloseCause::Rejected { status: 404 });

    let mut session = client();
    session.handle_stopped(Code::H3_NO_ERROR);
    feed(&mut session, &response_frame(200));
    assert_eq!(verdict(&mut session).cause, CloseCause::Reset(Code::H3_NO_ERROR));
}

#[test]
fn drain_is_told_once_and_changes_little() {
    let mut session = open_client();
    feed(&mut session, &data(&hex("80 00 78 ae 00 80 00 78 ae 00")));
    session.handle_goaway(8);
    assert_eq!(events(&mut session), [SessionEvent::Draining]);
    assert_eq!(session.state(), State::Draining);
    feed(&mut session, &data(&tlv(0x00, b"still here")));
    assert_eq!(
        events(&mut session),
        [SessionEvent::Datagram(Bytes::from_static(b"still here"))]
    );
}

#[test]
fn a_goaway_below_an_unanswered_request_ends_it() {
    for id in [0, 4] {
        let mut session = client();
        session.handle_goaway(id);
        assert_eq!(
            verdict(&mut session).cause,
            CloseCause::Reset(Code::H3_REQUEST_REJECTED)
        );
        assert_eq!(
            transmits(&mut session),
            [
                Transmit::Reset(Code::H3_REQUEST_CANCELLED),
                Transmit::Stop(Code::H3_REQUEST_CANCELLED)
            ]
        );
    }
}

#[test]
fn a_goaway_above_an_unanswered_request_is_told_behind_the_answer() {
    let mut session = client();
    session.handle_goaway(8);
    assert_eq!((events(&mut session), session.state()), (vec![], State::Connecting));
    feed(&mut session, &response_frame(200));
    let told = events(&mut session);
    assert!(
        matches!(told[..], [SessionEvent::Established(_), SessionEvent::Draining]),
        "{told:?}"
    );
    assert_eq!(session.state(), State::Draining);
}

#[test]
fn a_goaway_that_contradicts_the_answer_is_only_a_hint() {
    let mut session = open_client();
    session.handle_goaway(0);
    assert_eq!(
        (events(&mut session), session.state()),
        (vec![SessionEvent::Draining], State::Draining)
    );
    // A client's GOAWAY names a push, not a request.
    let mut session = open_server();
    session.handle_goaway(0);
    assert_eq!(events(&mut session), [SessionEvent::Draining]);
}

#[test]
fn flow_control_capsules_are_ignored_while_it_is_off() {
    let mut session = open_client();
    feed(
        &mut session,
        &data(&hex("99 0b 4d 3d 01 00 99 0b 4d 3f 01 00 99 0b 4d 3e 01 00")),
    );
    assert_eq!((events(&mut session), session.state()), (vec![], State::Open));
}

#[test]
fn flow_control_capsules_are_passed_on_while_it_is_on() {
    let mut session = Session::client(0, &request(Dialect::D15), MAX_SECTION).with_flow_control();
    feed(&mut session, &response_frame(200));
    events(&mut session);
    feed(&mut session, &data(&hex("99 0b 4d 3d 01 07 99 0b 4d 40 01 09")));
    assert_eq!(
        events(&mut session),
        [
            SessionEvent::FlowControl(Capsule::MaxData(7)),
            SessionEvent::FlowControl(Capsule::MaxStreams { bidi: false, limit: 9 }),
        ]
    );
    // Prohibited whenever flow control is on (§5.4).
    feed(&mut session, &data(&hex("99 0b 4d 3e 01 00")));
    assert!(transmits(&mut session).contains(&Transmit::Reset(Code::WT_FLOW_CONTROL_ERROR)));
    assert_eq!(session.state(), State::Closed);
}

#[test]
fn flow_control_is_sent_while_the_session_is_established_only() {
    let mut session = Session::client(0, &request(Dialect::D15), MAX_SECTION).with_flow_control();
    transmits(&mut session);
    session.send_flow_control(&Capsule::MaxData(7));
    assert_eq!(transmits(&mut session), []);
    feed(&mut session, &response_frame(200));
    session.send_flow_control(&Capsule::MaxData(7));
    let bytes = data(&hex("99 0b 4d 3d 01 07"));
    assert_eq!(transmits(&mut session), [Transmit::Data(bytes.into())]);
    session.close(0, "");
    transmits(&mut session);
    session.send_flow_control(&Capsule::MaxData(8));
    assert_eq!(transmits(&mut session), []);
}

// This side ends it.

#[test]
fn a_local_close_sends_capsule_and_fin_and_waits() {
    let mut session = open_client();
    session.close(7, "bye");
    assert_eq!(session.state(), State::Closing);
    assert_eq!(events(&mut session), [closed(7, "bye", Initiator::Local)]);
    assert_eq!(
        transmits(&mut session),
        [Transmit::Data(data(&hex(CLOSE_7_BYE)).into()), Transmit::Finish]
    );
    session.handle_fin().expect("between frames");
    assert_eq!(session.state(), State::Closed);
    assert_eq!(events(&mut session), [SessionEvent::Finished]);
    assert_eq!(transmits(&mut session), []);
}

#[test]
fn what_arrives_after_a_local_close_is_ignored() {
    let mut session = open_server();
    session.close(1, "first");
    feed(&mut session, &data(&hex(CLOSE_7_BYE)));
    feed(&mut session, &hex("02 00"));
    session.handle_fin().expect("ignored");
    assert_eq!(
        verdict(&mut session),
        info(1, "first", Initiator::Local, CloseCause::Closed)
    );
}

#[test]
fn the_wait_for_the_fin_has_an_end() {
    let mut session = open_server();
    session.handle_close_timeout();
    assert_eq!(session.state(), State::Open, "only after a close");
    session.close(0, "");
    transmits(&mut session);
    session.handle_close_timeout();
    session.handle_close_timeout();
    assert_eq!(session.state(), State::Closed);
    let code = Code::H3_REQUEST_CANCELLED;
    assert_eq!(transmits(&mut session), [Transmit::Reset(code), Transmit::Stop(code)]);
    assert_eq!(
        events(&mut session),
        [closed(0, "", Initiator::Local), SessionEvent::Finished]
    );
}

#[test]
fn a_reset_instead_of_the_fin_settles_a_close() {
    let mut session = open_server();
    session.close(3, "x");
    transmits(&mut session);
    session.handle_reset(Code::WT_SESSION_GONE);
    assert_eq!(session.state(), State::Closed);
    assert_eq!(
        events(&mut session),
        [closed(3, "x", Initiator::Local), SessionEvent::Finished]
    );
    assert_eq!(transmits(&mut session), []);
}

#[test]
fn a_peer_that_stops_our_close_gets_a_reset() {
    let mut session = open_server();
    session.close(3, "x");
    session.handle_stopped(Code(0x77));
    assert_eq!(transmits(&mut session), [Transmit::Reset(Code(0x77))]);
    assert_eq!(session.state(), State::Closing);
}

#[test]
fn a_client_that_closes_before_the_response_cancels() {
    let mut session = client();
    session.close(5, "changed my mind");
    let code = Code::H3_REQUEST_CANCELLED;
    assert_eq!(transmits(&mut session), [Transmit::Reset(code), Transmit::Stop(code)]);
    let expected = closed(5, "changed my mind", Initiator::Local);
    assert_eq!(events(&mut session), [expected, SessionEvent::Finished]);
    feed(&mut session, &response_frame(200));
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_server_that_closes_before_its_answer_is_unavailable() {
    let mut session = server();
    session.close(5, "shutting down");
    assert_eq!(
        transmits(&mut session),
        [Transmit::Data(response_frame(503).into()), Transmit::Finish]
    );
    let cause = CloseCause::Rejected { status: 503 };
    assert_eq!(verdict(&mut session), info(5, "shutting down", Initiator::Local, cause));
}

#[test]
fn a_server_that_closes_before_the_request_refuses_it() {
    let mut session = Session::server(0, MAX_SECTION);
    session.close(0, "");
    let code = Code::H3_REQUEST_REJECTED;
    assert_eq!(transmits(&mut session), [Transmit::Reset(code), Transmit::Stop(code)]);
}

#[test]
fn a_surplus_session_is_aborted_with_its_code() {
    let mut session = server();
    session.abort(Code::H3_REQUEST_REJECTED, "one session at a time");
    session.abort(Code::H3_MESSAGE_ERROR, "too late");
    assert_failed(&mut session, Code::H3_REQUEST_REJECTED);
}

#[test]
fn a_long_reason_is_cut_before_it_is_stored() {
    let mut session = open_client();
    let reason = "€".repeat(400);
    session.close(0, &reason);
    assert_eq!(verdict(&mut session).reason, capsule::truncate_reason(&reason));
}

#[test]
fn drain_is_sent_once() {
    let mut session = client();
    session.drain();
    assert_eq!(transmits(&mut session), [], "not before the session is open");
    let mut session = open_client();
    session.drain();
    session.drain();
    assert_eq!(
        transmits(&mut session),
        [Transmit::Data(data(&hex("80 00 78 ae 00")).into())]
    );
    assert_eq!((events(&mut session), session.state()), (vec![], State::Draining));
    feed(&mut session, &data(&hex("80 00 78 ae 00")));
    assert_eq!(
        events(&mut session),
        [SessionEvent::Draining],
        "the peer's is still news"
    );
}

#[test]
fn a_client_neither_accepts_nor_rejects() {
    let mut session = client();
    session.accept(Dialect::D15, HeaderList::new());
    session.reject(404, HeaderList::new());
    assert_eq!((transmits(&mut session), events(&mut session)), (vec![], vec![]));
}

// The connection ends.

#[test]
fn a_lost_connection_ends_everything_at_once() {
    for mut session in [client(), server(), open_client(), open_server()] {
        session.handle_connection_lost("idle timeout".to_owned(), None, Initiator::Transport);
        let expected = info(0, "idle timeout", Initiator::Transport, CloseCause::ConnectionLost);
        assert_eq!(
            events(&mut session),
            [SessionEvent::Closed(expected), SessionEvent::Finished]
        );
        assert_eq!(transmits(&mut session), []);
    }
}

#[test]
fn a_connection_lost_after_the_close_changes_no_verdict() {
    let mut session = open_client();
    session.close(7, "bye");
    session.handle_connection_lost("gone".to_owned(), Some(0x100), Initiator::Peer);
    assert_eq!(session.state(), State::Closed);
    assert_eq!(
        events(&mut session),
        [closed(7, "bye", Initiator::Local), SessionEvent::Finished]
    );
}

#[test]
fn a_request_without_origin_has_none() {
    assert_eq!(
        ConnectRequest::new(Dialect::D15, "a", "/", HeaderList::new()).origin(),
        None
    );
}
