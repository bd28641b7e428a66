//! Errors by width. Each verdict about a peer's bytes has exactly one width: a stream or the whole connection.

use crate::error_code::Code;

/// An error that ends the connection: close it with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct ConnectionError {
    /// The code for CONNECTION_CLOSE.
    pub code: Code,
    /// What the peer did.
    pub reason: &'static str,
}

/// An error that ends one stream: reset it and stop it with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct StreamError {
    /// The code for RESET_STREAM and STOP_SENDING.
    pub code: Code,
    /// What the peer did.
    pub reason: &'static str,
}

/// An error of either width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection ends.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// One stream ends.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Error {
    /// The code on the wire.
    pub fn code(&self) -> Code {
        match self {
            Error::Connection(error) => error.code,
            Error::Stream(error) => error.code,
        }
    }
}
