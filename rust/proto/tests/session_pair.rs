//! A client's and a server's session joined in memory, for every way of cutting what passes between them.

mod common;

use std::collections::VecDeque;

use bytes::Bytes;
use common::{MAX_SECTION, events, headers, request};
use wt_proto::dialect::Dialect;
use wt_proto::error_code::Code;
use wt_proto::headers::{HeaderList, Response};
use wt_proto::session::{CloseCause, CloseInfo, Initiator, Session, SessionEvent, State, Transmit};

/// Two sessions and the stream between them.
struct Pair {
    client: Session,
    server: Session,
    /// Largest piece in which bytes arrive.
    piece: usize,
    /// Whether a direction was stopped by its receiver: what is still in flight is then lost.
    stopped: [bool; 2],
}

impl Pair {
    fn new(dialect: Dialect, piece: usize) -> Self {
        Pair {
            client: Session::client(0, &request(dialect), MAX_SECTION),
            server: Session::server(0, MAX_SECTION),
            piece,
            stopped: [false; 2],
        }
    }

    /// Carries everything across until both sides are silent.
    fn run(&mut self) {
        loop {
            let to_server: VecDeque<_> = std::iter::from_fn(|| self.client.poll_transmit()).collect();
            let to_client: VecDeque<_> = std::iter::from_fn(|| self.server.poll_transmit()).collect();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            let [client_stopped, server_stopped] = &mut self.stopped;
            deliver(to_server, &mut self.server, self.piece, server_stopped, client_stopped);
            deliver(to_client, &mut self.client, self.piece, client_stopped, server_stopped);
        }
    }

    /// An open session.
    fn open(dialect: Dialect, piece: usize) -> Self {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        pair.server.accept(dialect, HeaderList::new());
        pair.run();
        events(&mut pair.client);
        events(&mut pair.server);
        pair
    }
}

/// Carries out what one side wants on the other. `deaf`: the receiver stopped this direction.
fn deliver(transmits: VecDeque<Transmit>, to: &mut Session, piece: usize, deaf: &mut bool, sender_deaf: &mut bool) {
    for transmit in transmits {
        match transmit {
            Transmit::Stop(code) => {
                *sender_deaf = true;
                to.handle_stopped(code);
            }
            _ if *deaf => {}
            Transmit::Data(bytes) => bytes.chunks(piece).for_each(|chunk| {
                to.handle_data(Bytes::copy_from_slice(chunk))
                    .expect("no connection error");
            }),
            Transmit::Finish => to.handle_fin().expect("between frames"),
            Transmit::Reset(code) => to.handle_reset(code),
        }
    }
}

/// The situation, in single bytes, in small pieces and whole, in each dialect.
fn in_every_way(situation: impl Fn(Dialect, usize)) {
    for dialect in [Dialect::D02, Dialect::D04, Dialect::D07, Dialect::D14, Dialect::D15] {
        for piece in [1, 3, 7, 4096] {
            situation(dialect, piece);
        }
    }
}

fn closed(code: u32, reason: &str, by: Initiator, cause: CloseCause) -> SessionEvent {
    SessionEvent::Closed(CloseInfo {
        code,
        reason: reason.to_owned(),
        by,
        cause,
    })
}

#[test]
fn request_and_accept() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        assert_eq!(events(&mut pair.server), [SessionEvent::Request(request(dialect))]);
        assert_eq!(pair.client.state(), State::Connecting);
        pair.server.accept(dialect, headers(&[("x-answer", "42")]));
        pair.run();
        let mut fields = headers(&[("x-answer", "42")]);
        if dialect <= Dialect::D04 {
            fields.extend(headers(&[("sec-webtransport-http3-draft", "draft02")]));
        }
        assert_eq!(
            events(&mut pair.client),
            [SessionEvent::Established(Response::new(200, fields))]
        );
        assert_eq!((pair.client.state(), pair.server.state()), (State::Open, State::Open));
    });
}

#[test]
fn request_and_reject() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        events(&mut pair.server);
        // A length would be that of content which is not there.
        pair.server
            .reject(403, headers(&[("x-why", "closed"), ("content-length", "5")]));
        pair.run();
        let cause = CloseCause::Rejected { status: 403 };
        let expected = |by| [closed(0, "HTTP status 403", by, cause.clone()), SessionEvent::Finished];
        let refused = SessionEvent::Refused(Response::new(403, headers(&[("x-why", "closed")])));
        assert_eq!(pair.client.poll_event(), Some(refused));
        assert_eq!(events(&mut pair.client), expected(Initiator::Peer));
        assert_eq!(events(&mut pair.server), expected(Initiator::Local));
    });
}

#[test]
fn the_client_closes() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::open(dialect, piece);
        pair.client.close(7, "bye");
        pair.run();
        let expected = |by| [closed(7, "bye", by, CloseCause::Closed), SessionEvent::Finished];
        assert_eq!(events(&mut pair.client), expected(Initiator::Local));
        assert_eq!(events(&mut pair.server), expected(Initiator::Peer));
        assert_eq!(
            (pair.client.state(), pair.server.state()),
            (State::Closed, State::Closed)
        );
    });
}

#[test]
fn the_server_closes() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::open(dialect, piece);
        let reason = "r".repeat(1024);
        pair.server.close(u32::MAX, &reason);
        pair.run();
        let expected = |by| {
            [
                closed(u32::MAX, &reason, by, CloseCause::Closed),
                SessionEvent::Finished,
            ]
        };
        assert_eq!(events(&mut pair.client), expected(Initiator::Peer));
        assert_eq!(events(&mut pair.server), expected(Initiator::Local));
    });
}

#[test]
fn both_close_at_once() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::open(dialect, piece);
        pair.client.close(1, "client");
        pair.server.close(2, "server");
        pair.run();
        let expected = |code, reason| {
            [
                closed(code, reason, Initiator::Local, CloseCause::Closed),
                SessionEvent::Finished,
            ]
        };
        assert_eq!(events(&mut pair.client), expected(1, "client"));
        assert_eq!(events(&mut pair.server), expected(2, "server"));
    });
}

#[test]
fn both_drain_and_then_one_closes() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::open(dialect, piece);
        pair.server.drain();
        pair.run();
        assert_eq!(events(&mut pair.client), [SessionEvent::Draining]);
        pair.client.drain();
        pair.run();
        assert_eq!(events(&mut pair.server), [SessionEvent::Draining]);
        assert_eq!(
            (pair.client.state(), pair.server.state()),
            (State::Draining, State::Draining)
        );
        pair.client.close(0, "");
        pair.run();
        assert_eq!(
            (pair.client.state(), pair.server.state()),
            (State::Closed, State::Closed)
        );
    });
}

#[test]
fn the_client_gives_up_before_the_answer() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        events(&mut pair.server);
        pair.client.close(9, "too slow");
        pair.server.accept(dialect, HeaderList::new());
        pair.run();
        let local = closed(9, "too slow", Initiator::Local, CloseCause::Closed);
        assert_eq!(events(&mut pair.client), [local, SessionEvent::Finished]);
        let [SessionEvent::Closed(info), SessionEvent::Finished] = &events(&mut pair.server)[..] else {
            panic!("closed and finished")
        };
        assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_CANCELLED));
    });
}

#[test]
fn the_client_gives_up_before_the_request_is_out() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.client.close(9, "never mind");
        pair.run();
        assert_eq!(events(&mut pair.server).len(), 2, "closed and finished, no request");
    });
}

#[test]
fn the_server_is_shut_down_before_its_answer() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        pair.server.close(0, "shutdown");
        pair.run();
        let expected = closed(
            0,
            "HTTP status 503",
            Initiator::Peer,
            CloseCause::Rejected { status: 503 },
        );
        let refused = SessionEvent::Refused(Response::new(503, HeaderList::new()));
        assert_eq!(events(&mut pair.client), [refused, expected, SessionEvent::Finished]);
    });
}

#[test]
fn the_server_turns_a_surplus_session_away() {
    in_every_way(|dialect, piece| {
        let mut pair = Pair::new(dialect, piece);
        pair.run();
        pair.server.abort(Code::H3_REQUEST_REJECTED, "one session at a time");
        pair.run();
        let [SessionEvent::Closed(info), SessionEvent::Finished] = &events(&mut pair.client)[..] else {
            panic!("closed and finished")
        };
        assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_REJECTED));
    });
}
