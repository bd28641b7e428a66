//! What the server does with a session, by path; the same as the peers in Python.

use std::time::{Duration, Instant};

use crate::{
    library::{Fallible, Reader, Session, Writer},
    rows::CHUNK,
};

pub(crate) async fn run<S: Session>(path: &str, session: S) -> Fallible<()> {
    match path {
        "/echo" => echo(session).await,
        "/sink" => sink(session).await,
        "/source" => source(session).await,
        "/count" => count(session).await,
        other => Err(format!("nothing at {other}").into()),
    }
}

async fn echo<S: Session>(session: S) -> Fallible<()> {
    let datagrams = session.clone();
    tokio::spawn(async move {
        while let Ok(data) = datagrams.receive_datagram().await {
            let _ = datagrams.send_datagram(data);
        }
    });
    loop {
        let (mut writer, mut reader) = session.accept().await?;
        tokio::spawn(async move {
            // 4 KiB: there may be a thousand of them.
            let mut buffer = vec![0; 4096];
            while let Some(count) = reader.read(&mut buffer).await? {
                writer.write_all(&buffer[..count]).await?;
            }
            writer.finish();
            Fallible::Ok(())
        });
    }
}

async fn sink<S: Session>(session: S) -> Fallible<()> {
    loop {
        let (mut writer, mut reader) = session.accept().await?;
        let size = reader.count().await?;
        writer.write_all(size.to_string().as_bytes()).await?;
        writer.finish();
    }
}

async fn source<S: Session>(session: S) -> Fallible<()> {
    loop {
        let (mut writer, mut reader) = session.accept().await?;
        tokio::spawn(async move {
            let end = Instant::now() + Duration::from_secs_f64(reader.text().await?.parse()?);
            while Instant::now() < end {
                writer.write_all(&CHUNK).await?;
            }
            writer.finish();
            Fallible::Ok(())
        });
    }
}

async fn count<S: Session>(session: S) -> Fallible<()> {
    let (mut received, mut times) = (0u64, None::<(Instant, Instant)>);
    loop {
        tokio::select! {
            biased;
            data = session.receive_datagram() => {
                data?;
                let now = Instant::now();
                times.get_or_insert((now, now)).1 = now;
                received += 1;
            }
            stream = session.accept() => {
                let (mut writer, _reader) = stream?;
                let seconds = times.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
                writer.write_all(format!("[{received}, {seconds}]").as_bytes()).await?;
                writer.finish();
                (received, times) = (0, None);
            }
        }
    }
}
