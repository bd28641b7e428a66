//! What the parsers cost per frame, capsule, stream, datagram and request: `cargo bench -p wt-proto`.
//!
//! Each input is what the wire brings all the time; one iteration parses all of it. A figure here is worth looking at
//! beside the cost of a whole operation (`benches/`): a round trip takes 50 to 100 us.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wt_proto::{
    capsule::{Capsule, CapsuleParser},
    datagram,
    dialect::Dialect,
    frame::{Frame, FrameContext, FrameParser, data_frame},
    headers::{ConnectRequest, Request},
    stream_header::{BiHeaderParser, UniHeaderParser, encode_bi_header, encode_uni_header},
};

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    // The messages of a session's CONNECT stream, and content of plain HTTP.
    for (name, size, count) in [
        ("64 DATA frames of 16 B", 16, 64),
        ("one DATA frame of 64 KiB", 65_536, 1),
    ] {
        let wire = encoded(|out| (0..count).for_each(|_| data_frame(&vec![7; size], out)));
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut parser = FrameParser::new(FrameContext::Request);
                parser.push(wire.clone());
                while let Some(frame) = parser.next().expect("valid") {
                    black_box(frame);
                }
            });
        });
    }
    group.finish();
}

fn capsules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capsule");
    let wire = encoded(|out| {
        for round in 0..16 {
            Capsule::MaxData(round << 20).encode(out);
            Capsule::MaxStreams {
                bidi: true,
                limit: round,
            }
            .encode(out);
            Capsule::DataBlocked(round << 20).encode(out);
            Capsule::Datagram(Bytes::from_static(&[7; 64])).encode(out);
        }
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 of four kinds", |bencher| {
        bencher.iter(|| read_capsules(&wire, wire.len()))
    });
    group.bench_function("64 of four kinds, in pieces of 7 B", |bencher| {
        bencher.iter(|| read_capsules(&wire, 7))
    });
    group.finish();
}

fn read_capsules(wire: &Bytes, piece: usize) {
    let mut parser = CapsuleParser::new(true);
    let mut rest = wire.clone();
    while !rest.is_empty() {
        parser.push(rest.split_to(piece.min(rest.len())));
        while let Some(capsule) = parser.next().expect("valid") {
            black_box(capsule);
        }
    }
}

fn stream_headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream header");
    let wire = |encode: fn(u64, &mut BytesMut)| {
        encoded(|out| {
            encode(400, out);
            out.extend_from_slice(&[7; 1024]);
        })
    };
    let (bi, uni) = (wire(encode_bi_header), wire(encode_uni_header));
    group.bench_function("bidirectional, with 1 KiB behind it", |bencher| {
        bencher.iter(|| BiHeaderParser::new().push(black_box(bi.clone())));
    });
    group.bench_function("unidirectional, with 1 KiB behind it", |bencher| {
        bencher.iter(|| UniHeaderParser::new().push(black_box(uni.clone())));
    });
    group.finish();
}

fn datagrams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("datagram");
    let wire = encoded(|out| {
        datagram::encode_prefix(400, out);
        out.extend_from_slice(&[7; 64]);
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| datagram::decode(black_box(wire.clone())))
    });
    group.bench_function("encode the prefix", |bencher| {
        let fresh = || BytesMut::with_capacity(16);
        bencher.iter_batched_ref(fresh, |out| datagram::encode_prefix(400, out), BatchSize::SmallInput);
    });
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    let headers = [
        ("origin", "https://example.org"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0.0.0 Safari/537.36",
        ),
        (
            "authorization",
            "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        ),
    ];
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let request = ConnectRequest::new(Dialect::D15, "example.org", "/chat?room=1", headers);
    let frame = encoded(|out| request.encode_frame(out));
    let mut parser = FrameParser::new(FrameContext::Request);
    parser.push(frame);
    let Ok(Some(Frame::Headers(section))) = parser.next() else {
        panic!("a HEADERS frame")
    };
    group.bench_function("decode a session request", |bencher| {
        bencher.iter(|| Request::decode(black_box(&section), 1 << 16));
    });
    group.bench_function("encode a session request", |bencher| {
        let fresh = || BytesMut::with_capacity(1024);
        bencher.iter_batched_ref(fresh, |out| request.encode_frame(out), BatchSize::SmallInput);
    });
    group.finish();
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

criterion_group!(parsers, frames, capsules, stream_headers, datagrams, headers);
criterion_main!(parsers);
