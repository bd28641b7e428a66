//! Requests of the peer: what each stream asks for, and whether it is let in.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Release},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use wt_proto::{
    error::ConnectionError,
    error_code::Code,
    headers::{ConnectRequest, PlainRequest},
    session::SessionEvent,
    settings,
};
use wt_quic::ReadError;

use super::Connection;
use crate::{
    config::{MAX_EXCHANGES, MAX_FIELD_SECTION_SIZE, MAX_SERVER_EXCHANGES},
    connect_stream::{self, ConnectStream},
    driver::{Either, select},
    http::{self, Exchange},
    server::Accepted,
    session::{Session, reject},
};

/// Requests of plain HTTP by their stream. The registry knows their ids too: it routes by them.
pub(super) type Exchanges = Mutex<BTreeMap<u64, Arc<Exchange>>>;

/// Why a session request is not given to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Answer with this status.
    Status(u16),
    /// Reset the CONNECT stream with this code.
    Abort(Code, &'static str),
}

impl Connection {
    /// The largest header section that the peer takes, as far as it has said.
    pub fn peer_field_limit(&self) -> u64 {
        self.peer_settings()
            .and_then(|settings| settings.get(settings::id::MAX_FIELD_SECTION_SIZE))
            .unwrap_or(u64::MAX)
    }

    /// Requests of plain HTTP in progress.
    pub fn exchange_count(&self) -> usize {
        self.registry.lock().exchanges()
    }

    /// How long the peer may take for each part of a request. A client has no requests of its peer.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.server
            .as_ref()
            .map_or(Duration::MAX, |server| server.request_timeout)
    }

    /// Whether anybody needs this connection: a session that is not over, or a plain request.
    pub(super) fn is_in_use(&self) -> bool {
        self.session_count() > 0 || self.exchange_count() > 0
    }

    /// A request stream of the peer (server), whose first bytes are `first`.
    pub(crate) async fn serve_request(self: Arc<Self>, mut stream: ConnectStream, first: Bytes) {
        // Draft-16 section 3.1: a server MUST NOT process a request before the client's SETTINGS.
        let settled = select(self.ready.passed(), self.ended.passed());
        let limit = self.request_timeout();
        let is_late = self.driver.timeout(limit, settled).await.is_none();
        let id = stream.recv.id();
        if is_late {
            self.count_timeout();
        }
        if is_late || !self.goaway.lock().admit_request(id) {
            return self.refuse_request(stream);
        }
        let machine = wt_proto::session::Session::server(id, MAX_FIELD_SECTION_SIZE);
        let mut machine = self.flow_controlled(machine).with_peer_limit(self.peer_field_limit());
        let reading = read_head(&mut machine, &mut stream.recv, first);
        let read = self.driver.timeout(limit, select(reading, stream.send.stopped())).await;
        let head = match read {
            Some(Either::Left(Ok(head))) => head,
            Some(Either::Left(Err(error))) => return self.fail(&error),
            // The session's task hears of it too, and answers.
            Some(Either::Right(_)) => None,
            None => {
                self.count_timeout();
                // RFC 9114 section 4.1.1: nothing of it was processed.
                machine.abort(Code::H3_REQUEST_REJECTED, "the header section did not come in time");
                None
            }
        };
        let head = match head {
            Some(SessionEvent::Plain(request)) => match self.clone().admit_exchange(id, request) {
                Some(exchange) => {
                    let machine = machine.into_exchange(exchange.request());
                    return http::run(exchange, machine, stream).await;
                }
                None => {
                    machine.abort(Code::H3_REQUEST_REJECTED, "too many requests at once");
                    None
                }
            },
            head => head,
        };
        // A task of its own: a session lives long, and this one is as large as all of the above.
        let driver = self.driver.clone();
        driver.spawn(connect_stream::run(Session::new(id, self), machine, stream, head));
    }

    /// A request that comes after this side's GOAWAY, whatever it asks for, or from a client that does not send
    /// SETTINGS.
    fn refuse_request(&self, stream: ConnectStream) {
        let ConnectStream { mut send, mut recv } = stream;
        send.reset(Code::H3_REQUEST_REJECTED.0);
        recv.stop(Code::H3_REQUEST_REJECTED.0);
        self.count_refused_request();
    }

    pub(super) fn flow_controlled(&self, machine: wt_proto::session::Session) -> wt_proto::session::Session {
        if self.has_flow_control() {
            machine.with_flow_control()
        } else {
            machine
        }
    }

    /// A valid WebTransport request arrived (server).
    pub(crate) fn deliver_request(&self, session: &Arc<Session>, request: ConnectRequest) -> Result<(), Refusal> {
        let Some(server) = &self.server else {
            return Err(Refusal::Status(501));
        };
        // Draft-16 section 3.1: without the required settings all sessions are malformed.
        let refusal = match self.dialect() {
            None => Some(Refusal::Abort(
                Code::H3_MESSAGE_ERROR,
                "the client's SETTINGS do not allow WebTransport",
            )),
            Some(dialect) if !request.agrees_with(dialect) => Some(Refusal::Status(400)),
            // Draft-16 section 3.4: surplus sessions MUST be reset with H3_REQUEST_REJECTED.
            Some(_) if !self.has_room_for_session() => Some(Refusal::Abort(
                Code::H3_REQUEST_REJECTED,
                "this connection carries its number of sessions already",
            )),
            // Its stream began before this side's GOAWAY, its headers ended behind it.
            Some(_) if self.goaway_due.is_open() => Some(Refusal::Abort(
                Code::H3_REQUEST_REJECTED,
                "this server takes no new sessions: it is going away",
            )),
            // Draft-16 section 3.2: an Origin that is not allowed SHOULD get 403.
            Some(_) if !server.origins.allows(&request) => {
                tracing::debug!(
                    origin = request.origin(),
                    authority = request.authority,
                    "refusing an origin"
                );
                server.stats.origins_refused.add(1);
                Some(Refusal::Status(403))
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            server.stats.requests_rejected.add(1);
            return Err(refusal);
        }
        session.set_request(request);
        self.adopt(session);
        server
            .push_request(Accepted::Request(session.clone()))
            .map_err(|()| Refusal::Status(503))
    }

    /// A valid request of plain HTTP arrived (server): register it and give it to the application. None: there are too
    /// many.
    ///
    /// It is no session, so the number of those does not matter, nor does what the SETTINGS say about WebTransport.
    fn admit_exchange(self: Arc<Self>, id: u64, request: PlainRequest) -> Option<Arc<Exchange>> {
        let server = self.server.clone()?;
        let exchange = Exchange::new(id, self.clone(), request);
        {
            let mut exchanges = self.exchanges.lock();
            if exchanges.len() >= MAX_EXCHANGES {
                self.count_refused_request();
                return None;
            }
            if server.exchanges.fetch_add(1, AcqRel) >= MAX_SERVER_EXCHANGES {
                server.exchanges.fetch_sub(1, Release);
                self.count_refused_request();
                return None;
            }
            exchanges.insert(id, exchange.clone());
        }
        let early = self.registry.lock().insert_exchange(id);
        early
            .streams
            .into_iter()
            .for_each(|arrived| reject(arrived, Code::WT_SESSION_GONE));
        if !early.datagrams.is_empty() {
            exchange.refuse_datagram();
        } else if server.push_request(Accepted::Exchange(exchange.clone())).is_err() {
            exchange.refuse(503);
        } else {
            server.stats.http_requests.add(1);
        }
        Some(exchange)
    }

    /// A datagram for a request of plain HTTP.
    pub(super) fn refuse_datagram(&self, id: u64) {
        let exchange = self.exchanges.lock().get(&id).cloned();
        if let Some(exchange) = exchange {
            exchange.refuse_datagram();
        }
    }

    /// A plain request is over.
    pub(crate) fn forget_exchange(&self, id: u64) {
        self.registry.lock().remove_exchange(id);
        let known = self.exchanges.lock().remove(&id);
        if let (Some(_), Some(server)) = (known, &self.server) {
            server.exchanges.fetch_sub(1, Release);
            server.count_ended_request();
        }
    }

    pub(crate) fn count_refused_request(&self) {
        if let Some(server) = &self.server {
            server.stats.requests_rejected.add(1);
        }
    }

    pub(crate) fn count_timeout(&self) {
        if let Some(server) = &self.server {
            server.stats.requests_timed_out.add(1);
        }
    }
}

/// Read a request until it is known what it is, or that it is none; None when the connection is lost.
async fn read_head(
    machine: &mut wt_proto::session::Session,
    recv: &mut wt_quic::RecvStream,
    first: Bytes,
) -> Result<Option<SessionEvent>, ConnectionError> {
    machine.handle_data(first)?;
    loop {
        if let Some(event) = machine.poll_event() {
            return Ok(Some(event));
        }
        match recv.read_chunk().await {
            Ok(Some(chunk)) => machine.handle_data(chunk)?,
            Ok(None) => machine.handle_fin()?,
            Err(ReadError::Reset(code)) => machine.handle_reset(Code(code)),
            Err(ReadError::ConnectionLost | ReadError::Closed) => return Ok(None),
        }
    }
}
