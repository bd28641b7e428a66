//! Keying material of a session.

mod common;

use common::{Net, both_drivers, raw::RawClient};
use wt_io::{
    config::{ClientConfig, CommonConfig, ServerConfig},
    error::{CloseCause, ExportError},
    proto::exporter::{InvalidExporter, MAX_LENGTH},
};

both_drivers!(
    both_ends_derive_the_same_bytes,
    it_is_the_tls_exporter_with_the_drafts_label_and_context,
    sessions_of_one_connection_have_different_bytes,
    what_cannot_be_derived_is_refused,
    there_is_none_before_and_after_the_session,
);

async fn both_ends_derive_the_same_bytes(net: Net) {
    let pair = net.pair().await;
    let questions: [(&[u8], &[u8], usize); 6] = [
        (b"token", b"", 32),
        (b"token", b"", 33),
        (b"token", b"room 7", 32),
        (b"other", b"", 32),
        // The border between label and context counts.
        (b"tokenroom", b" 7", 32),
        (&[0xff; 255], &[0; 255], MAX_LENGTH),
    ];
    let mut seen = Vec::new();
    for (label, context, length) in questions {
        let near = pair.client.export_keying_material(label, context, length);
        assert_eq!(near, pair.server.export_keying_material(label, context, length));
        let bytes = near.expect("derived");
        assert_eq!(bytes.len(), length);
        seen.push(bytes[..32].to_vec());
    }
    let mut different = seen.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), seen.len(), "no two begin alike");
    pair.finish().await;
}

async fn it_is_the_tls_exporter_with_the_drafts_label_and_context(net: Net) {
    let raw = RawClient::ready(&net).await;
    // The session on stream 4: stream 0 is a request that came to nothing.
    let (mut first, _recv) = raw.quic.open_bi().await.expect("open");
    first.reset(0u32.into()).expect("open");
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    assert_eq!(session.id(), 4);
    let mut expected = [0; 48];
    let context = [&[0, 0, 0, 0, 0, 0, 0, 4, 5][..], b"label", &[3], b"abc"].concat();
    raw.quic
        .export_keying_material(&mut expected, b"EXPORTER-WebTransport", &context)
        .expect("derived");
    assert_eq!(
        session.export_keying_material(b"label", b"abc", 48),
        Ok(expected.to_vec())
    );
    raw.finish().await;
    session.closed().await;
}

async fn sessions_of_one_connection_have_different_bytes(net: Net) {
    let shared = |common: CommonConfig| CommonConfig {
        initial_max_data: 1000,
        ..common
    };
    let (server, client) = (net.server_config(), net.client_config());
    let pair = net
        .pair_with(
            ServerConfig {
                common: shared(server.common),
                max_sessions: 2,
                ..server
            },
            ClientConfig {
                common: shared(client.common),
                ..client
            },
        )
        .await;
    let near = pair.dialer.request(pair.client.connection(), "/second");
    let far = pair.listener.accept().await;
    near.established().await;
    let second = near.export_keying_material(b"token", b"", 32).expect("derived");
    assert_eq!(far.export_keying_material(b"token", b"", 32), Ok(second.clone()));
    assert_ne!(pair.client.export_keying_material(b"token", b"", 32), Ok(second));
    near.close(0, "");
    near.closed().await;
    far.closed().await;
    pair.finish().await;
}

async fn what_cannot_be_derived_is_refused(net: Net) {
    let pair = net.pair().await;
    let refused = |label: &[u8], context: &[u8], length| pair.client.export_keying_material(label, context, length);
    assert_eq!(
        refused(b"", b"", 1),
        Err(ExportError::Invalid(InvalidExporter::Label(0)))
    );
    assert_eq!(
        refused(b"x", &[0; 256], 1),
        Err(ExportError::Invalid(InvalidExporter::Context(256)))
    );
    assert_eq!(
        refused(b"x", b"", 0),
        Err(ExportError::Invalid(InvalidExporter::Length(0)))
    );
    pair.finish().await;
}

async fn there_is_none_before_and_after_the_session(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let client = dialer.request(&connection, "/");
    assert_eq!(
        client.export_keying_material(b"x", b"", 32),
        Err(ExportError::SessionClosed(None))
    );
    let server = listener.accept().await;
    client.established().await;
    client.close(7, "done");
    server.closed().await;
    let Err(ExportError::SessionClosed(Some(info))) = server.export_keying_material(b"x", b"", 32) else {
        panic!("the session has ended");
    };
    assert_eq!((info.code, info.cause), (7, CloseCause::Closed));
    client.closed().await;
    listener.close().await;
}
