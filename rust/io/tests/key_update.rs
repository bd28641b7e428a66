//! Keys are updated (RFC 9001 section 6) while traffic goes on.
//!
//! quinn updates them by itself before an AES-GCM key has protected 2^23 packets, which no test waits for; and nothing but its
//! trace tells that it did.

mod common;

use std::sync::{
    Once,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{Net, both_drivers, eventually, pattern};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

both_drivers!(traffic_goes_on_across_key_updates_of_either_side);

/// Both drivers count in the same place.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

static UPDATES: AtomicUsize = AtomicUsize::new(0);

async fn traffic_goes_on_across_key_updates_of_either_side(net: Net) {
    static SUBSCRIBE: Once = Once::new();
    SUBSCRIBE.call_once(|| tracing::subscriber::set_global_default(CountUpdates).expect("the first"));
    let _alone = ONE_AT_A_TIME.lock().await;
    let pair = net.pair().await;
    let (near, answers) = pair.client.open_bi().await;
    pair.client.write(&near, b"!", false).await.expect("open");
    let (far, questions) = pair.server.accept_bi().await;
    assert_eq!(pair.server.read_exact(&questions, 1).await, b"!");
    let part = pattern(100_000);
    let traffic = async {
        loop {
            pair.client.write(&near, &part, false).await.expect("open");
            assert!(pair.server.read_exact(&questions, part.len()).await == part);
            pair.server.write(&far, &part, false).await.expect("open");
            assert!(pair.client.read_exact(&answers, part.len()).await == part);
        }
    };
    let updates = async {
        for end in [&pair.client, &pair.server, &pair.server, &pair.client] {
            let before = UPDATES.load(SeqCst);
            eventually("both ends have new keys", || {
                if UPDATES.load(SeqCst) == before {
                    // Ignored as long as the last update is not over.
                    end.connection().quic().force_key_update();
                }
                UPDATES.load(SeqCst) >= before + 2
            })
            .await;
        }
    };
    tokio::select! {
        () = updates => {}
        () = traffic => {}
    }
    let stream = pair.server.open_uni().await;
    pair.server.write(&stream, &part, true).await.expect("open");
    let received = pair.client.accept_uni().await;
    assert!(pair.client.read_to_end(&received).await.expect("finished") == part);
    pair.finish().await;
}

/// Counts what quinn says when either end of a connection changes its keys, and nothing else.
struct CountUpdates;

impl Subscriber for CountUpdates {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "quinn_proto::connection"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" && format!("{value:?}") == "executing key update" {
            UPDATES.fetch_add(1, SeqCst);
        }
    }
}
