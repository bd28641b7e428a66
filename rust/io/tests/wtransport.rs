//! Interoperability with wtransport, an independent implementation that speaks draft-02 and draft-07 (protocol.md 3.2).
//!
//! It carries one session per connection, and its `close` is the connection's.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{Dialer, Net, Peer, both_drivers, eventually, pattern};
use wt_io::{
    error::{CloseCause, Initiator, StreamEnd},
    proto::{dialect::Dialect, error_code::to_http},
    send_stream::SendState,
    session::Stream,
};
use wtransport::{
    ClientConfig, Connection, Endpoint, Identity, RecvStream, SendStream, ServerConfig, VarInt,
    endpoint::{
        ConnectOptions, SessionRequest,
        endpoint_side::{Client, Server},
    },
    error::{ConnectingError, ConnectionError, StreamReadError, StreamWriteError},
    tls::Sha256Digest,
};

both_drivers!(
    its_client_shows_path_and_headers,
    its_server_sees_path_and_headers,
    its_client_is_rejected,
    its_server_rejects,
    streams_of_both_kinds_and_sides_with_its_client,
    streams_of_both_kinds_and_sides_with_its_server,
    datagrams_with_its_client,
    datagrams_with_its_server,
    a_hundred_streams_from_its_client,
    a_hundred_streams_to_its_server,
    resets_and_stops_with_its_client,
    its_client_closes,
    its_server_closes,
    its_client_sees_our_close,
    its_server_sees_our_close,
    a_megabyte_before_our_close_reaches_its_client,
);

async fn its_client_shows_path_and_headers(net: Net) {
    let foreign = FromClient::connect(&net).await;
    let request = foreign.ours.request().expect("it has arrived");
    assert_eq!(request.path, "/room?id=7");
    assert_eq!(
        request.authority,
        format!("127.0.0.1:{}", foreign.listener.address().port())
    );
    assert!(request.headers.contains(&("x-test".into(), "yes".into())));
    assert_eq!(request.protocol, "webtransport");
    assert_eq!(foreign.ours.connection().dialect(), Some(Dialect::D07));
    foreign.finish().await;
}

async fn its_server_sees_path_and_headers(net: Net) {
    let endpoint = server(&net).await;
    let dialer = net.dialer(net.client_config());
    let (ours, request) = request(&dialer, &endpoint, "/room?id=7").await;
    assert_eq!(ours.connection().dialect(), Some(Dialect::D07));
    assert_eq!(request.path(), "/room?id=7");
    assert_eq!(request.authority(), "localhost");
    assert_eq!(request.headers()["x-test"], "yes");
    let theirs = request.accept().await.expect("accepted");
    ours.established().await;
    assert!(ours.is_connected());
    let foreign = FromServer {
        endpoint,
        dialer,
        theirs,
        ours,
    };
    foreign.finish().await;
}

async fn its_client_is_rejected(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let endpoint = client(&net);
    let url = format!("https://127.0.0.1:{}/", listener.port());
    let (connecting, request) = tokio::join!(endpoint.connect(url), async {
        let request = listener.request().await;
        request.reject(404, Vec::new());
        request
    });
    assert!(
        matches!(connecting, Err(ConnectingError::SessionRejected)),
        "{connecting:?}"
    );
    assert_eq!(request.closed().await.cause, CloseCause::Rejected { status: 404 });
    listener.close().await;
}

async fn its_server_rejects(net: Net) {
    let endpoint = server(&net).await;
    let dialer = net.dialer(net.client_config());
    let (ours, request) = request(&dialer, &endpoint, "/").await;
    request.forbidden().await;
    assert_eq!(ours.closed().await.cause, CloseCause::Rejected { status: 403 });
    assert!(!ours.is_connected());
}

async fn streams_of_both_kinds_and_sides_with_its_client(net: Net) {
    let foreign = FromClient::connect(&net).await;
    streams(&foreign.theirs, &foreign.ours).await;
    foreign.finish().await;
}

async fn streams_of_both_kinds_and_sides_with_its_server(net: Net) {
    let foreign = FromServer::connect(&net).await;
    streams(&foreign.theirs, &foreign.ours).await;
    foreign.finish().await;
}

async fn streams(theirs: &Connection, ours: &Peer) {
    let data = pattern(300_000);
    // Theirs, bidirectional: echoed by us.
    let (mut send, mut recv) = theirs.open_bi().await.expect("credit").await.expect("opened");
    let echo = async {
        let (answer, question) = ours.accept_bi().await;
        let asked = ours.read_to_end(&question).await.expect("read");
        ours.write(&answer, &asked, true).await.expect("written");
    };
    let ask = async {
        write(&mut send, &data).await;
        assert!(read_to_end(&mut recv).await.expect("read") == data);
    };
    tokio::join!(echo, ask);
    // Ours, bidirectional: echoed by them.
    let (send, recv) = ours.open_bi().await;
    let ask = async {
        ours.write(&send, &data, true).await.expect("written");
        assert!(ours.read_to_end(&recv).await.expect("read") == data);
    };
    let echo = async {
        let (mut answer, mut question) = theirs.accept_bi().await.expect("a stream");
        let asked = read_to_end(&mut question).await.expect("read");
        write(&mut answer, &asked).await;
    };
    tokio::join!(ask, echo);
    // Unidirectional ones.
    let mut send = theirs.open_uni().await.expect("credit").await.expect("opened");
    let (_, read) = tokio::join!(write(&mut send, &data), async {
        let recv = ours.accept_uni().await;
        ours.read_to_end(&recv).await.expect("read")
    });
    assert!(read == data);
    let send = ours.open_uni().await;
    let (written, read) = tokio::join!(ours.write(&send, &data, true), async {
        let mut recv = theirs.accept_uni().await.expect("a stream");
        read_to_end(&mut recv).await.expect("read")
    });
    written.expect("written");
    assert!(read == data);
    ours.all_streams_closed().await;
    assert_eq!(ours.stats().streams_created.get(), 4);
    assert_eq!(ours.stats().stream_errors.get(), 0);
}

async fn datagrams_with_its_client(net: Net) {
    let foreign = FromClient::connect(&net).await;
    datagrams(&foreign.theirs, &foreign.ours).await;
    foreign.finish().await;
}

async fn datagrams_with_its_server(net: Net) {
    let foreign = FromServer::connect(&net).await;
    datagrams(&foreign.theirs, &foreign.ours).await;
    foreign.finish().await;
}

async fn datagrams(theirs: &Connection, ours: &Peer) {
    // Both know the same limit before the MTU grows.
    for size in [0, 1, 1000, ours.max_datagram_size()] {
        let data = pattern(size);
        ours.send(&data).await.expect("accepted");
        let received = theirs.receive_datagram().await.expect("received");
        assert!(received.payload() == data);
    }
    for size in [0, 1, 1000, theirs.max_datagram_size().expect("on")] {
        let data = pattern(size);
        theirs.send_datagram(&data).expect("accepted");
        assert!(ours.datagram().await.expect("received") == data);
    }
}

async fn a_hundred_streams_from_its_client(net: Net) {
    let foreign = FromClient::connect(&net).await;
    let FromClient { theirs, ours, .. } = &foreign;
    let open = async {
        for number in 0..100_u8 {
            let mut send = theirs.open_uni().await.expect("credit").await.expect("opened");
            send.write_all(&[number]).await.expect("written");
            send.finish().await.expect("acknowledged");
        }
    };
    let accept = async {
        for number in 0..100 {
            let recv = ours.accept_uni().await;
            assert_eq!(ours.read_to_end(&recv).await, Ok(vec![number]));
        }
    };
    tokio::join!(open, accept);
    foreign.finish().await;
}

async fn a_hundred_streams_to_its_server(net: Net) {
    let foreign = FromServer::connect(&net).await;
    let FromServer { theirs, ours, .. } = &foreign;
    let open = async {
        for number in 0..100_u8 {
            match ours.open(true).await.expect("credit") {
                Stream::Bidirectional(send, recv) => {
                    ours.write(&send, &[number], true).await.expect("written");
                    assert_eq!(ours.read_to_end(&recv).await, Ok(vec![number, number]));
                }
                other => panic!("not bidirectional: {other:?}"),
            }
        }
    };
    let accept = async {
        for _ in 0..100 {
            let (mut answer, mut question) = theirs.accept_bi().await.expect("a stream");
            let asked = read_to_end(&mut question).await.expect("read");
            write(&mut answer, &[asked[0], asked[0]]).await;
        }
    };
    tokio::join!(open, accept);
    foreign.finish().await;
}

async fn resets_and_stops_with_its_client(net: Net) {
    let foreign = FromClient::connect(&net).await;
    let FromClient { theirs, ours, .. } = &foreign;
    // Its codes are those on the wire; draft-07 maps 32 bits.
    for code in [0, 29, 30, 255, u32::MAX] {
        let wire = VarInt::try_from_u64(to_http(code).0).expect("below 2^62");
        let (mut send, mut recv) = theirs.open_bi().await.expect("credit").await.expect("opened");
        send.write_all(b"begun").await.expect("written");
        let (answer, question) = ours.accept_bi().await;
        assert_eq!(ours.read_exact(&question, 5).await, b"begun");
        send.reset(wire).expect("open");
        let end = ours.read_to_end(&question).await.expect_err("it was reset");
        assert_eq!(
            (end.application_code(), end.wire_code()),
            (Some(code), Some(wire.into_inner()))
        );
        answer.reset(code);
        assert_eq!(read_to_end(&mut recv).await, Err(StreamReadError::Reset(wire)));

        let mut send = theirs.open_uni().await.expect("credit").await.expect("opened");
        send.write_all(b"begun").await.expect("written");
        ours.accept_uni().await.stop(code);
        assert_eq!(send.stopped().await, StreamWriteError::Stopped(wire));

        let send = ours.open_uni().await;
        ours.write(&send, b"begun", false).await.expect("written");
        theirs.accept_uni().await.expect("a stream").stop(wire);
        ours.event_loop().ready(send.ended()).await;
        assert_eq!(send.state(), SendState::Stopped);
        assert_eq!(send.end(), Some(StreamEnd::Stopped(wire.into_inner())));
    }
    // A code outside of the range resets all the same.
    let mut send = theirs.open_uni().await.expect("credit").await.expect("opened");
    send.write_all(b"begun").await.expect("written");
    let recv = ours.accept_uni().await;
    assert_eq!(ours.read_exact(&recv, 5).await, b"begun");
    send.reset(VarInt::from_u32(7)).expect("open");
    let end = ours.read_to_end(&recv).await.expect_err("it was reset");
    assert_eq!((end.application_code(), end.wire_code()), (None, Some(7)));
    foreign.finish().await;
}

async fn its_client_closes(net: Net) {
    let foreign = FromClient::connect(&net).await;
    foreign.theirs.close(VarInt::from_u32(17), b"enough");
    ended_by_the_connection(&foreign.ours, 17, "enough").await;
    foreign.listener.close().await;
}

async fn its_server_closes(net: Net) {
    let foreign = FromServer::connect(&net).await;
    foreign.theirs.close(VarInt::from_u32(17), b"enough");
    ended_by_the_connection(&foreign.ours, 17, "enough").await;
}

async fn ended_by_the_connection(ours: &Peer, code: u32, reason: &str) {
    let info = ours.closed().await;
    assert_eq!((info.code, &*info.reason), (code, reason));
    assert_eq!((info.by, info.cause), (Initiator::Peer, CloseCause::ConnectionLost));
}

async fn its_client_sees_our_close(net: Net) {
    let foreign = FromClient::connect(&net).await;
    foreign.ours.close(23, "closing time");
    assert_eq!(saw(&foreign.theirs).await, (23, "closing time".to_owned()));
    assert_eq!(foreign.ours.closed().await.by, Initiator::Local);
    foreign.finish().await;
}

async fn its_server_sees_our_close(net: Net) {
    let foreign = FromServer::connect(&net).await;
    foreign.ours.close(23, "closing time");
    assert_eq!(saw(&foreign.theirs).await, (23, "closing time".to_owned()));
    assert_eq!(foreign.ours.closed().await.by, Initiator::Local);
    foreign.finish().await;
}

/// wtransport tells of a session's end when something is asked of the session.
async fn saw(theirs: &Connection) -> (u64, String) {
    match theirs.accept_uni().await {
        Err(ConnectionError::ApplicationClosed(close)) => (
            close.code().into_inner(),
            String::from_utf8_lossy(close.reason()).into_owned(),
        ),
        Err(other) => panic!("ended otherwise: {other:?}"),
        Ok(_) => panic!("a stream after the close"),
    }
}

async fn a_megabyte_before_our_close_reaches_its_client(net: Net) {
    let foreign = FromClient::connect(&net).await;
    let data = pattern(1 << 20);
    let send = foreign.ours.open_uni().await;
    foreign.ours.write(&send, &data, true).await.expect("written");
    foreign.ours.close(0, "all sent");
    let mut recv = foreign.theirs.accept_uni().await.expect("a stream");
    assert!(read_to_end(&mut recv).await.expect("read") == data);
    foreign.finish().await;
}

/// Its client, our server.
struct FromClient {
    endpoint: Endpoint<Client>,
    listener: common::Listener,
    theirs: Connection,
    ours: Peer,
}

impl FromClient {
    async fn connect(net: &Net) -> Self {
        let listener = net.listen(net.server_config()).await;
        let endpoint = client(net);
        let options = ConnectOptions::builder(format!("https://127.0.0.1:{}/room?id=7", listener.port()))
            .add_header("x-test", "yes")
            .build();
        let (theirs, ours) = tokio::join!(endpoint.connect(options), listener.accept());
        Self {
            endpoint,
            listener,
            theirs: theirs.expect("connected"),
            ours,
        }
    }

    async fn finish(self) {
        over(&self.ours).await;
        self.listener.close().await;
        self.theirs.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}

/// Its server, our client.
struct FromServer {
    endpoint: Endpoint<Server>,
    dialer: Dialer,
    theirs: Connection,
    ours: Peer,
}

impl FromServer {
    async fn connect(net: &Net) -> Self {
        let endpoint = server(net).await;
        let dialer = net.dialer(net.client_config());
        let (ours, request) = request(&dialer, &endpoint, "/").await;
        let theirs = request.accept().await.expect("accepted");
        ours.established().await;
        Self {
            endpoint,
            dialer,
            theirs,
            ours,
        }
    }

    async fn finish(self) {
        over(&self.ours).await;
        drop(self.dialer);
        self.theirs.closed().await;
        self.endpoint.wait_idle().await;
    }
}

async fn over(ours: &Peer) {
    ours.close(0, "");
    ours.closed().await;
    ours.abandon();
    ours.all_streams_closed().await;
    let connection = ours.connection();
    eventually("the session left its connection", || connection.session_count() == 0).await;
    assert_eq!(connection.stats().protocol_errors.get(), 0);
}

/// The client trusts our certificate as a browser would, by its hash.
fn client(net: &Net) -> Endpoint<Client> {
    let hash = Sha256Digest::new(net.identity.certificate.sha256);
    let config = ClientConfig::builder()
        .with_bind_default()
        .with_server_certificate_hashes([hash])
        .max_idle_timeout(Some(Duration::from_secs(20)))
        .expect("a valid time")
        .build();
    Endpoint::client(config).expect("a socket")
}

async fn server(net: &Net) -> Endpoint<Server> {
    let identity = Identity::load_pemfiles(net.identity.certfile(), net.identity.keyfile())
        .await
        .expect("PEM files");
    let config = ServerConfig::builder()
        .with_bind_address(SocketAddr::from(([127, 0, 0, 1], 0)))
        .with_identity(identity)
        .build();
    Endpoint::server(config).expect("a socket")
}

/// Our request, and how it arrives.
async fn request(dialer: &Dialer, endpoint: &Endpoint<Server>, path: &str) -> (Peer, SessionRequest) {
    let port = endpoint.local_addr().expect("bound").port();
    let (ours, request) = tokio::join!(
        async {
            let connection = dialer.connect("127.0.0.1", port).await.expect("connected");
            let headers = vec![("x-test".into(), "yes".into())];
            dialer.request_with(&connection, "localhost", path, headers)
        },
        async { endpoint.accept().await.await.expect("a request") }
    );
    (ours, request)
}

async fn write(send: &mut SendStream, data: &[u8]) {
    send.write_all(data).await.expect("written");
    send.finish().await.expect("acknowledged");
}

async fn read_to_end(recv: &mut RecvStream) -> Result<Vec<u8>, StreamReadError> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while let Some(read) = recv.read(&mut piece).await? {
        bytes.extend(&piece[..read]);
    }
    Ok(bytes)
}
