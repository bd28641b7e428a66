//! The negotiation of the application's protocol, between our two sides and with others.

mod common;

use common::{MAX_SECTION, encoded, events, headers, transmits};
use wt_proto::dialect::Dialect;
use wt_proto::error_code::Code;
use wt_proto::headers::{ConnectRequest, HeaderList, Response};
use wt_proto::session::{CloseCause, Session, SessionEvent, State, Transmit};
use wt_proto::subprotocol::{answer, answered, choose, offer, offered};

fn own(protocols: &[&str]) -> Vec<String> {
    protocols.iter().map(|protocol| protocol.to_string()).collect()
}

fn offering(protocols: &[&str]) -> HeaderList {
    let mut headers = HeaderList::new();
    offer(&mut headers, &own(protocols)).expect("valid protocols");
    headers
}

#[test]
fn the_offer_is_a_list_of_strings_in_order() {
    assert_eq!(
        offering(&["b", "a\"x"]),
        headers(&[("wt-available-protocols", r#""b", "a\"x""#)])
    );
    assert_eq!(offering(&[]), HeaderList::new());
    assert!(offer(&mut HeaderList::new(), &own(&["ü"])).is_err());
    // The application's own field is replaced, not doubled.
    let mut fields = headers(&[("WT-Available-Protocols", "\"x\"")]);
    offer(&mut fields, &own(&["y"])).expect("valid");
    assert_eq!(offered(&fields), own(&["y"]));
}

#[test]
fn the_server_picks_by_its_own_order() {
    let request = offering(&["a", "b", "c"]);
    assert_eq!(choose(&request, &own(&["x", "c", "a"])), Some("c".to_owned()));
    assert_eq!(choose(&request, &own(&["x"])), None);
    assert_eq!(choose(&request, &[]), None);
    assert_eq!(choose(&HeaderList::new(), &own(&["a"])), None);
    // Draft-12 used Tokens; one member that is no String voids the field. Parameters mean nothing.
    assert_eq!(
        choose(&headers(&[("wt-available-protocols", "a, \"b\"")]), &own(&["b"])),
        None
    );
    let lines = headers(&[
        ("wt-available-protocols", "\"a\";q=1"),
        ("wt-available-protocols", "\"b\""),
    ]);
    assert_eq!(choose(&lines, &own(&["b"])), Some("b".to_owned()));
}

#[test]
fn only_a_choice_is_answered() {
    let mut fields = headers(&[("wt-protocol", "\"forged\""), ("x", "1")]);
    answer(&mut fields, None);
    assert_eq!(fields, headers(&[("x", "1")]));
    answer(&mut fields, Some("a"));
    assert_eq!(answered(&fields), Some("a".to_owned()));
    assert_eq!(answered(&headers(&[("wt-protocol", "a")])), None);
}

fn client(protocols: &[&str], response: &[(&str, &str)]) -> Session {
    let request = ConnectRequest::new(Dialect::D15, "example.org", "/", offering(protocols));
    let mut session = Session::client(0, &request, MAX_SECTION);
    transmits(&mut session);
    let response = Response::new(200, headers(response));
    session
        .handle_data(encoded(|out| response.encode_frame(out)).into())
        .expect("no error of the connection");
    session
}

#[test]
fn a_choice_that_was_offered_opens_the_session() {
    for response in [&[("wt-protocol", "\"b\"")][..], &[("wt-protocol", "\"b\";x")], &[]] {
        assert_eq!(client(&["a", "b"], response).state(), State::Open);
    }
}

#[test]
fn a_choice_that_was_not_offered_ends_the_session() {
    for offered in [&["a", "b"][..], &[]] {
        let mut session = client(offered, &[("wt-protocol", "\"c\"")]);
        let closed = events(&mut session);
        let [SessionEvent::Closed(info), SessionEvent::Finished] = &closed[..] else {
            panic!("never established: {closed:?}");
        };
        assert!(matches!(info.cause, CloseCause::Protocol(error) if error.code == Code::WT_ALPN_ERROR));
        let code = Code::WT_ALPN_ERROR;
        assert_eq!(transmits(&mut session), [Transmit::Reset(code), Transmit::Stop(code)]);
    }
}

#[test]
fn a_malformed_choice_is_ignored() {
    for value in ["b", "\"b", "\"b\", \"a\"", "1", ""] {
        assert_eq!(
            client(&["a", "b"], &[("wt-protocol", value)]).state(),
            State::Open,
            "{value}"
        );
    }
    let twice = [("wt-protocol", "\"b\""), ("wt-protocol", "\"b\"")];
    assert_eq!(client(&["b"], &twice).state(), State::Open);
}
