//! From Python values to the core's types.

use std::{path::PathBuf, time::Duration};

use pyo3::{
    buffer::PyBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyString},
};
use wt_io::{
    config::{ClientConfig, CommonConfig, CongestionControl, DatagramOverflow, Preset, ServerConfig, VerifyMode},
    driver::DriverKind,
    proto::{
        headers::{self, HeaderList},
        origin::{InvalidPattern, OriginPattern, OriginPolicy},
    },
    send_stream::Written,
    stateless_reset::ResetKey,
};

/// `_core.SENT`.
pub(crate) const SENT: u8 = 0;
/// `_core.SENT_YIELD`.
pub(crate) const SENT_YIELD: u8 = 1;
/// `_core.NO_ROOM`.
pub(crate) const NO_ROOM: u8 = 2;

/// The status that Python sees.
#[inline]
pub(crate) fn status(written: Written) -> u8 {
    match written {
        Written::Sent => SENT,
        Written::SentYield => SENT_YIELD,
        Written::NoRoom => NO_ROOM,
    }
}

/// Lend the bytes of a bytes object or str without copying, of any other buffer with one copy.
#[inline]
pub(crate) fn with_bytes<T>(data: &Bound<'_, PyAny>, work: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(work(bytes.as_bytes()));
    }
    if let Ok(text) = data.cast::<PyString>() {
        return Ok(work(text.to_cow()?.as_bytes()));
    }
    match PyBuffer::<u8>::get(data) {
        Ok(buffer) => Ok(work(&buffer.to_vec(data.py())?)),
        Err(_) => Err(PyTypeError::new_err(format!(
            "data must be bytes, bytearray, memoryview or str, not {}",
            data.get_type().name()?
        ))),
    }
}

/// The fields that `ClientConfig` and `ServerConfig` share, read by name.
#[derive(FromPyObject)]
struct Common {
    alpn_protocols: Vec<String>,
    ca_certs: Option<PathBuf>,
    certfile: Option<PathBuf>,
    close_timeout: Option<f64>,
    congestion_control_algorithm: String,
    connection_idle_timeout: Option<f64>,
    connection_keepalive_timeout: Option<f64>,
    datagram_overflow: String,
    datagram_queue_size: usize,
    enable_draft15: bool,
    flow_control_window_auto_scale: bool,
    flow_control_window_size: u64,
    initial_max_data: i64,
    initial_max_streams_bidi: i64,
    initial_max_streams_uni: i64,
    keep_alive: bool,
    keyfile: Option<PathBuf>,
    max_incoming_streams: u64,
    max_pending_events_per_session: usize,
    max_stream_buffer_size: usize,
    max_total_pending_events: usize,
    pending_event_ttl: Option<f64>,
    preset: Option<String>,
    stream_buffer_size: usize,
    stream_flow_control_increment_bidi: u64,
    stream_flow_control_increment_uni: u64,
    verify_mode: Option<i64>,
}

#[derive(FromPyObject)]
struct OfClient {
    server_certificate_hashes: Vec<Vec<u8>>,
}

#[derive(FromPyObject)]
struct OfServer {
    allow_migration: bool,
    allowed_origins: Option<Origins>,
    handshake_timeout: Option<f64>,
    http_timeout: Option<f64>,
    max_connections: usize,
    max_pending_handshakes: usize,
    max_sessions: u64,
    retry_threshold: Option<usize>,
    stateless_reset_key: Option<PyBackedBytes>,
}

#[derive(FromPyObject)]
enum Origins {
    Word(String),
    Patterns(Vec<String>),
}

/// A `pywebtransport.ClientConfig`.
pub(crate) fn client_config(config: &Bound<'_, PyAny>) -> PyResult<ClientConfig> {
    let OfClient {
        server_certificate_hashes,
    } = config.extract()?;
    let certificate_hashes = server_certificate_hashes
        .into_iter()
        .map(|hash| {
            hash.try_into()
                .map_err(|_| PyValueError::new_err("a SHA-256 hash has 32 bytes"))
        })
        .collect::<PyResult<_>>()?;
    Ok(ClientConfig {
        common: config.extract::<Common>()?.into_core(VerifyMode::Required)?,
        certificate_hashes,
    })
}

/// A `pywebtransport.ServerConfig`.
pub(crate) fn server_config(config: &Bound<'_, PyAny>) -> PyResult<ServerConfig> {
    let OfServer {
        allow_migration,
        allowed_origins,
        handshake_timeout,
        http_timeout,
        max_connections,
        max_pending_handshakes,
        max_sessions,
        retry_threshold,
        stateless_reset_key,
    } = config.extract()?;
    let allowed_origins = match allowed_origins {
        None => OriginPolicy::Any,
        Some(Origins::Word(word)) if word == "same-origin" => OriginPolicy::SameOrigin,
        Some(Origins::Word(word)) => return Err(origins_error(&word)),
        Some(Origins::Patterns(patterns)) => OriginPolicy::List(
            patterns
                .iter()
                .map(|text| origin_pattern(text))
                .collect::<PyResult<_>>()?,
        ),
    };
    Ok(ServerConfig {
        common: config.extract::<Common>()?.into_core(VerifyMode::None)?,
        max_connections,
        max_sessions,
        allowed_origins,
        handshake_timeout: limit_of(handshake_timeout),
        max_pending_handshakes,
        retry_threshold,
        stateless_reset_key: stateless_reset_key.map(|secret| ResetKey::new(&secret)),
        allow_migration,
        request_timeout: limit_of(http_timeout),
    })
}

fn origins_error(word: &str) -> PyErr {
    PyValueError::new_err(format!(
        "allowed_origins must be None, 'same-origin' or a list, not '{word}'"
    ))
}

fn origin_pattern(text: &str) -> PyResult<OriginPattern> {
    text.parse()
        .map_err(|error: InvalidPattern| PyValueError::new_err(error.to_string()))
}

/// Check one entry of `ServerConfig.allowed_origins`.
#[pyfunction]
pub(crate) fn check_origin_pattern(pattern: &str) -> PyResult<()> {
    origin_pattern(pattern).map(drop)
}

/// Check the headers that an application wants to send.
pub(crate) fn check_headers(headers: &HeaderList) -> PyResult<()> {
    headers::check_fields(headers).map_err(PyValueError::new_err)
}

/// The `driver` field. `auto` is the loop driver: the faster one as long as two cores have to carry both ends, and its
/// stand-in keeps sessions alive while handlers compute (benches/README.md, "Which driver").
pub(crate) fn driver_kind(config: &Bound<'_, PyAny>) -> PyResult<DriverKind> {
    match config.getattr("driver")?.extract::<String>()?.as_str() {
        "auto" | "loop" => Ok(DriverKind::Loop),
        "thread" => Ok(DriverKind::Thread),
        other => Err(PyValueError::new_err(format!(
            "driver must be 'auto', 'loop' or 'thread', not '{other}'"
        ))),
    }
}

impl Common {
    fn into_core(self, default_verify: VerifyMode) -> PyResult<CommonConfig> {
        let file = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        // Not validated in 0.8.1; a negative limit means none, like 0.
        let limit = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(CommonConfig {
            alpn_protocols: self.alpn_protocols,
            ca_certs: file(self.ca_certs),
            certfile: file(self.certfile),
            keyfile: file(self.keyfile),
            verify_mode: match self.verify_mode {
                None => default_verify,
                Some(0) => VerifyMode::None,
                Some(1) => VerifyMode::Optional,
                Some(_) => VerifyMode::Required,
            },
            close_timeout: limit_of(self.close_timeout),
            congestion_control: match self.congestion_control_algorithm.as_str() {
                "reno" => CongestionControl::NewReno,
                "bbr" => CongestionControl::Bbr,
                _ => CongestionControl::Cubic,
            },
            idle_timeout: limit_of(self.connection_idle_timeout),
            keep_alive: self
                .connection_keepalive_timeout
                .filter(|_| self.keep_alive)
                .map(seconds),
            window_auto_scale: self.flow_control_window_auto_scale,
            window_size: self.flow_control_window_size,
            initial_max_data: limit(self.initial_max_data),
            initial_max_streams_bidi: limit(self.initial_max_streams_bidi),
            initial_max_streams_uni: limit(self.initial_max_streams_uni),
            stream_increment_bidi: self.stream_flow_control_increment_bidi,
            stream_increment_uni: self.stream_flow_control_increment_uni,
            max_incoming_streams: self.max_incoming_streams,
            max_pending_per_session: self.max_pending_events_per_session,
            max_pending_total: self.max_total_pending_events,
            pending_ttl: limit_of(self.pending_event_ttl),
            stream_buffer_size: self.stream_buffer_size,
            max_stream_buffer_size: self.max_stream_buffer_size,
            datagram_queue_size: self.datagram_queue_size,
            datagram_overflow: match self.datagram_overflow.as_str() {
                "wait" => DatagramOverflow::Wait,
                "error" => DatagramOverflow::Error,
                _ => DatagramOverflow::DropOldest,
            },
            draft15: self.enable_draft15,
            preset: match self.preset.as_deref() {
                Some("throughput") => Preset::Throughput,
                Some("low_latency") => Preset::LowLatency,
                Some("jumbo") => Preset::Jumbo,
                _ => Preset::Default,
            },
        })
    }
}

/// A limit in seconds; None: no limit.
fn limit_of(value: Option<f64>) -> Duration {
    value.map_or(Duration::MAX, seconds)
}

/// Seconds from Python; what no `Duration` can hold becomes its end of the range.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(if value > 0.0 { Duration::MAX } else { Duration::ZERO })
}
