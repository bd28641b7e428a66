//! Client and server of this crate in a simulated network: virtual clock, loss, reordering, duplication, MTU changes, NAT
//! rebinding, outages. Nothing is mocked but the network, the clock and the entropy.
//!
//! [`world`] runs tasks and the clock, [`network`] loses packets, [`node`] is the machine below a driver, [`workload`] is what
//! applications do, [`seeds`] lives through a whole life of it, [`scripted`] are situations on networks that leave nothing to
//! chance.
//!
//! Everything random comes from one seed, and two runs of a seed send the same packets at the same times. What is in them
//! differs: TLS takes its keys from the system. A failure names the command that repeats it.

#![allow(unreachable_pub, reason = "the modules are those of one test")]

#[path = "../common/mod.rs"]
mod common;
mod diary;
mod network;
mod node;
mod random;
mod scripted;
mod seeds;
mod setting;
mod workload;
mod world;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use network::Traffic;
use seeds::Outcome;
use workload::Sums;

/// The command that repeats one seed.
fn replay(seed: u64, duration: Duration) -> String {
    format!(
        "SIM_SEED={seed} SIM_SECONDS={} cargo test --profile fast -p wt-io --test sim -- --ignored --exact --nocapture many_seeds",
        duration.as_secs()
    )
}

fn live(seed: u64, duration: Duration) -> Outcome {
    seeds::run(seed, duration)
        .unwrap_or_else(|message| panic!("seed {seed}: {message}\nto repeat it: {}", replay(seed, duration)))
}

#[test]
fn a_handful_of_seeds() {
    common::limited(|| {
        for seed in 1_000..1_004 {
            live(seed, Duration::from_secs(60));
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    common::limited(|| {
        let duration = Duration::from_secs(60);
        let first = live(7, duration);
        let second = live(7, duration);
        assert_eq!(first.trace, second.trace);
        assert_ne!(live(8, duration).trace, first.trace);
    });
}

/// `make sim` and `make sim-short`; with SIM_SEED just that one, and with SIM_TRACE it tells what quinn says.
#[test]
#[ignore = "takes minutes"]
fn many_seeds() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let duration = Duration::from_secs(number("SIM_SECONDS").unwrap_or(600));
    if let Some(seed) = number("SIM_SEED") {
        diary::begin();
        let outcome = live(seed, duration);
        return println!("seed {seed}, trace {:016x}: {outcome:#?}", outcome.trace);
    }
    let count = number("SIM_SEEDS").unwrap_or(200);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= count {
                return;
            }
            match seeds::run(seed, duration) {
                Ok(outcome) => outcomes.lock().expect("not poisoned").push(outcome),
                Err(message) => {
                    println!(
                        "seed {seed} FAILED: {message}\nto repeat it: {}",
                        replay(seed, duration)
                    );
                    failures.lock().expect("not poisoned").push(seed);
                }
            }
            if (seed + 1).is_multiple_of(20) {
                println!("{} of {count} seeds, {:?}", seed + 1, began.elapsed());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let outcomes = outcomes.into_inner().expect("not poisoned");
    summarize(&outcomes, duration);
    let failures = failures.into_inner().expect("not poisoned");
    assert!(
        failures.is_empty(),
        "{} of {count} seeds failed: {failures:?}",
        failures.len()
    );
}

fn summarize(outcomes: &[Outcome], duration: Duration) {
    let traffic = |part: fn(&Traffic) -> u64| outcomes.iter().map(|outcome| part(&outcome.traffic)).sum::<u64>();
    let sums = |part: fn(&Sums) -> u64| outcomes.iter().map(|outcome| part(&outcome.sums)).sum::<u64>();
    println!(
        "{} seeds of {} s: {} bytes on {} streams, {} resets ({} more overtook their stream), {} stops, \
         {} of {} datagrams arrived; {} packets, {} lost, \
         {} overtaken, {} duplicated, {} oversized, {} misdirected; {} rebindings, {} MTU changes, {} outages",
        outcomes.len(),
        duration.as_secs(),
        sums(|sums| sums.bytes),
        sums(|sums| sums.streams),
        sums(|sums| sums.resets),
        sums(|sums| sums.never_known),
        sums(|sums| sums.stops),
        sums(|sums| sums.datagrams_received),
        sums(|sums| sums.datagrams_sent),
        traffic(|traffic| traffic.packets),
        traffic(|traffic| traffic.lost),
        traffic(|traffic| traffic.overtaken),
        traffic(|traffic| traffic.duplicated),
        traffic(|traffic| traffic.oversized),
        traffic(|traffic| traffic.misdirected),
        traffic(|traffic| traffic.rebindings),
        traffic(|traffic| traffic.mtu_changes),
        traffic(|traffic| traffic.outages),
    );
}
