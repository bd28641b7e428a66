//! The peers in Rust of `benches/`: `wt-baseline quinn|wtransport|udp server|client ...` starts one end.
//!
//! They answer to the same commands as the peers in Python (`benches/peers/harness.py`) and are written as a user of
//! the libraries would: the rows are generic over [`library::Session`], which the compiler resolves, so nothing stands
//! between them and the library.

mod control;
mod handlers;
mod library;
mod rows;
mod udp;
mod with_quinn;
mod with_wtransport;

use std::process::ExitCode;

use library::{Fallible, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}; bench.py starts this program");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Fallible<()> {
    if options.library == "udp" {
        return udp::run(&options);
    }
    // One thread for everything serves these programs best: see README.md, "The peers".
    let mut builder = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(options.threads).enable_all().build()?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    runtime.block_on(async {
        match options.library.as_str() {
            "quinn" => with_quinn::run(&options).await,
            "wtransport" => with_wtransport::run(&options).await,
            other => Err(format!("unknown library {other}").into()),
        }
    })?;
    // Nothing of a peer needs a clean end.
    std::process::exit(0)
}
