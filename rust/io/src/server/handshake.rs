//! Handshakes, before they are connections: which of them begin, and how long they take.
//!
//! An Initial packet costs its sender nothing and may bear anybody's address; it costs the server a signature, some
//! kilobytes and up to three times as many bytes as it received. So handshakes are counted apart from connections, whose
//! places only those get that have finished one, and:
//!
//! * From `retry_threshold` unfinished ones on, a client that has not shown that it receives at its address gets a Retry
//!   (RFC 9000 section 8.1.2). It costs this side no memory, and it is smaller than the Initial that it answers. A real client
//!   comes back with the token after one round trip; a spoofed address never does. So never more than `retry_threshold`
//!   of the unfinished ones are spoofed, and those above are left to real clients.
//! * At `max_pending_handshakes` nothing begins any more. An address that may be spoofed gets no answer: its owner may
//!   never have sent anything, and a real client sends its Initial again after a second or so. A client with a token gets
//!   CONNECTION_REFUSED, which tells it at once.
//! * After `handshake_timeout` a handshake that is not over is forgotten, whatever the idle timeout is.
//!
//! Tokens are for a Retry alone (quinn keeps none for later connections unless its bloom filter is built in), and their key
//! is of this process: a token is on its way for one round trip, too short a time to matter to a restart.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Acquire, Release},
    },
    time::Duration,
};

use wt_proto::error_code::Code;

use super::{ServerShared, quinn_code};
use crate::{
    config::{INCOMING_BUFFER, INCOMING_BUFFERS, MAX_INCOMING, ServerConfig},
    connection::{ControlStream, begin},
    driver::{Driver, Either, select},
};

/// What quinn itself has to know.
pub(super) fn configure(quic: &mut quinn::ServerConfig, config: &ServerConfig) {
    quic.max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS)
        .migration(config.allow_migration);
}

/// Counts an unfinished handshake for as long as it lives.
pub(super) struct Pending(Arc<ServerShared>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Release);
    }
}

/// Counts a connection for as long as it lives.
pub(crate) struct Active(Arc<ServerShared>);

impl Active {
    /// Whose connection it is.
    pub(crate) fn server(&self) -> Arc<ServerShared> {
        self.0.clone()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Release);
    }
}

impl ServerShared {
    /// Let an attempt begin its handshake, or turn it away.
    pub(super) fn admit(
        self: &Arc<Self>,
        incoming: quinn::Incoming,
        config: &ServerConfig,
    ) -> Option<(quinn::Incoming, Pending)> {
        if self.active.load(Acquire) >= config.max_connections || self.is_draining() {
            self.stats.connections_rejected.add(1);
            // The peer sees CONNECTION_REFUSED at once instead of a timeout; a short packet for its long one.
            incoming.refuse();
            return None;
        }
        let pending = self.pending.load(Acquire);
        let is_real = incoming.remote_address_validated();
        // At most half, so that a flood leaves room for those that have passed a Retry.
        let threshold = config
            .retry_threshold
            .map(|threshold| threshold.min(config.max_pending_handshakes / 2));
        if !is_real && threshold.is_some_and(|threshold| pending >= threshold) {
            // quinn refuses this only to validated addresses.
            if incoming.retry().is_ok() {
                self.stats.retries_sent.add(1);
            }
            return None;
        }
        if pending >= config.max_pending_handshakes {
            if is_real {
                self.stats.handshakes_refused.add(1);
                incoming.refuse();
            } else {
                self.stats.handshakes_ignored.add(1);
                incoming.ignore();
            }
            return None;
        }
        // Only the accepting task adds to it.
        self.pending.fetch_add(1, AcqRel);
        Some((incoming, Pending(self.clone())))
    }

    /// The connection of a handshake, once that is over, and its control stream.
    ///
    /// The SETTINGS leave with the server's first flight (0.5-RTT data): a client may not ask for a session before it has them
    /// (draft-16 section 3.1), and would else wait for another round trip. Not to clients that have to show a certificate:
    /// they hear nothing before it was looked at, and a refusal is the end of their handshake, not of a connection.
    pub(super) async fn handshake(
        &self,
        incoming: quinn::Incoming,
        pending: Pending,
        driver: &Driver,
        limit: Duration,
    ) -> Option<(wt_quic::Connection, Option<ControlStream>)> {
        let connection = async {
            let connecting = incoming.accept()?;
            let Some(preface) = &self.early_preface else {
                return Ok((connecting.await?, None));
            };
            let (quic, established) = match connecting.into_0rtt() {
                Ok(early) => early,
                // quinn's answer to clients only.
                Err(connecting) => return Ok((connecting.await?, None)),
            };
            let mut established = pin!(established);
            let control = match select(begin(&quic, preface.clone()), &mut established).await {
                Either::Left(control) => {
                    established.await;
                    control
                }
                // The client does not allow the stream yet: the connection goes on trying.
                Either::Right(_) => None,
            };
            match quic.close_reason() {
                None => Ok((quic, control)),
                Some(error) => Err(error),
            }
        };
        let result = driver.timeout(limit, connection).await;
        drop(pending);
        match result {
            Some(Ok(connection)) => return Some(connection),
            Some(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            // It was dropped: quinn closes and forgets it.
            None => self.stats.handshakes_timed_out.add(1),
        }
        self.stats.handshakes_failed.add(1);
        None
    }

    /// A place for a connection whose handshake is over, unless there is none left or the server is going away.
    pub(super) fn take_place(self: &Arc<Self>, quic: &wt_quic::Connection, max_connections: usize) -> Option<Active> {
        if self.closed.load(Acquire) || self.is_draining() {
            quic.close(quinn_code(Code::H3_NO_ERROR), b"the server is shutting down");
            return None;
        }
        let active = Active(self.clone());
        if self.active.fetch_add(1, AcqRel) >= max_connections {
            // Others that began at the same time were quicker.
            self.stats.connections_rejected.add(1);
            quic.close(
                quinn_code(Code::H3_EXCESSIVE_LOAD),
                b"the server has as many connections as it allows",
            );
            return None;
        }
        Some(active)
    }
}
