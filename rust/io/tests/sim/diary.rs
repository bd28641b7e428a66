//! `SIM_TRACE=1`: what quinn and wt-io say while a seed is repeated, with the world's time. For reading, so it goes to
//! the standard output as it comes.

use std::{
    fmt::{Debug, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// The world's time in nanoseconds; one world at a time is repeated.
static NOW: AtomicU64 = AtomicU64::new(0);

pub fn begin() {
    if std::env::var_os("SIM_TRACE").is_some() {
        // A second one is refused; the first does.
        let _ = tracing::subscriber::set_global_default(Diary(AtomicU64::new(1)));
    }
}

pub fn set_time(now: Duration) {
    NOW.store(now.as_nanos() as u64, Relaxed);
}

struct Diary(AtomicU64);

impl Subscriber for Diary {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.0.fetch_add(1, Relaxed))
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let at = Duration::from_nanos(NOW.load(Relaxed));
        println!("{:.6} {}{}", at.as_secs_f64(), event.metadata().target(), line.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
