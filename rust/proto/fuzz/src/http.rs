//! One request of plain HTTP, whatever happens to it and in whatever order: the content keeps its limit, there is one
//! outcome, each half of the stream ends once, and cuts make no difference.

use arbitrary::Arbitrary;
use bytes::Bytes;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::headers::HeaderList;
use wt_proto::http::{Exchange, ExchangeEvent, response};
use wt_proto::session::{Session, SessionEvent, Transmit};

use crate::{all_equal, cuts, encoded};

/// A request and its life.
#[derive(Debug, Arbitrary)]
pub struct Input {
    content_length: Option<u8>,
    expects_continue: bool,
    limit: u8,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Arbitrary)]
enum Step {
    Collect,
    Data(Piece),
    Fin,
    Reset(u64),
    Stopped(u64),
    Datagram,
    ContentTimeout,
    RestTimeout,
    Respond(Vec<u8>),
    Abort,
}

/// Bytes behind the header section: mostly such that lead somewhere.
#[derive(Clone, Debug, Arbitrary)]
enum Piece {
    Content(Vec<u8>),
    Trailers,
    /// A HEADERS frame with these bytes.
    Section(Vec<u8>),
    Unknown(Vec<u8>),
    /// As they are.
    Raw(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> Bytes {
        match self {
            Piece::Content(content) => frame(0x00, content),
            Piece::Trailers => frame(0x01, b"\x00\x00\x21a\x01b"),
            Piece::Section(section) => frame(0x01, section),
            Piece::Unknown(payload) => frame(0x21, payload),
            Piece::Raw(bytes) => bytes.clone().into(),
        }
    }
}

impl Input {
    /// The promises, and that cuts of the stream make no difference.
    pub fn check(self) {
        self.keep_promises();
        let bytes: Vec<u8> = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Data(piece) => Some(piece.bytes()),
                _ => None,
            })
            .flatten()
            .collect();
        let _ = all_equal(cuts(&bytes).map(|pieces| self.hear(pieces)));
    }

    /// POST https://a/, and the exchange behind it.
    fn exchange(&self) -> Exchange {
        let mut section = b"\x00\x00\xd4\xd7\xc1\x50\x01a".to_vec();
        if let Some(length) = self.content_length {
            let digits = length.to_string();
            section.extend_from_slice(&[0x54, digits.len() as u8]);
            section.extend_from_slice(digits.as_bytes());
        }
        if self.expects_continue {
            section.extend_from_slice(b"\x26expect\x0c100-continue");
        }
        let mut session = Session::server(0, 4096);
        session.handle_data(frame(0x01, &section)).expect("valid");
        let Some(SessionEvent::Plain(request)) = session.poll_event() else {
            panic!("plain HTTP");
        };
        assert_eq!(request.content_length, self.content_length.map(u64::from));
        session.into_exchange(&request)
    }

    fn keep_promises(&self) {
        let mut exchange = self.exchange();
        for step in &self.steps {
            if self.apply(&mut exchange, step).is_err() {
                break;
            }
        }
        exchange.abort(Code::H3_INTERNAL_ERROR, "the end");
        assert!(exchange.is_over());
        let mut outcomes = 0;
        let mut failures = 0;
        while let Some(event) = exchange.poll_event() {
            match event {
                ExchangeEvent::Content(content) => {
                    assert!(content.len() <= usize::from(self.limit));
                    assert!(
                        self.content_length
                            .is_none_or(|length| usize::from(length) == content.len())
                    );
                    outcomes += 1;
                }
                ExchangeEvent::TooLarge | ExchangeEvent::TooSlow => outcomes += 1,
                ExchangeEvent::Failed(_) => failures += 1,
            }
        }
        assert!(outcomes <= 1 && failures <= 1);
        let (mut has_ended, mut has_reset, mut has_stopped) = (false, false, false);
        while let Some(transmit) = exchange.poll_transmit() {
            match transmit {
                Transmit::Data(bytes) => assert!(!has_ended && !bytes.is_empty()),
                Transmit::Finish => assert!(!std::mem::replace(&mut has_ended, true)),
                Transmit::Reset(_) => {
                    has_ended = true;
                    assert!(!std::mem::replace(&mut has_reset, true));
                }
                Transmit::Stop(_) => assert!(!std::mem::replace(&mut has_stopped, true)),
            }
        }
        assert!(has_ended);
    }

    fn apply(&self, exchange: &mut Exchange, step: &Step) -> Result<(), ConnectionError> {
        let is_read = exchange.wants_input();
        match step {
            Step::Collect => exchange.collect(u64::from(self.limit))?,
            Step::Data(piece) if is_read => exchange.handle_data(piece.bytes())?,
            Step::Fin if is_read => exchange.handle_fin()?,
            // Nobody reads before the content is wanted.
            Step::Data(_) | Step::Fin => {}
            Step::Reset(code) => exchange.handle_reset(Code(*code)),
            Step::Stopped(code) => exchange.handle_stopped(Code(*code)),
            Step::Datagram => exchange.handle_datagram(),
            Step::ContentTimeout => exchange.handle_content_timeout(),
            Step::RestTimeout => exchange.handle_rest_timeout(),
            Step::Respond(content) => {
                let made = response("POST", 200, HeaderList::new(), content.clone().into(), u64::MAX);
                let (response, content) = made.expect("valid");
                exchange.respond(&response, content);
            }
            Step::Abort => exchange.abort(Code::H3_INTERNAL_ERROR, "nobody answers"),
        }
        Ok(())
    }

    /// What an exchange makes of its stream when the content is wanted.
    fn hear(&self, pieces: Vec<Bytes>) -> (Vec<ExchangeEvent>, Vec<Transmit>, Result<(), ConnectionError>) {
        let mut exchange = self.exchange();
        let mut result = exchange.collect(u64::from(self.limit));
        result = result.and_then(|()| pieces.into_iter().try_for_each(|piece| exchange.handle_data(piece)));
        result = result.and_then(|()| exchange.handle_fin());
        let events = std::iter::from_fn(|| exchange.poll_event()).collect();
        let transmits = std::iter::from_fn(|| exchange.poll_transmit()).collect();
        (events, transmits, result)
    }
}

fn frame(kind: u64, payload: &[u8]) -> Bytes {
    encoded(|out| {
        wt_proto::varint::encode(kind, out);
        wt_proto::varint::encode(payload.len() as u64, out);
        out.extend_from_slice(payload);
    })
}
