//! The loop driver while its event loop does not come: a stand-in carries it on, and leaves it to a loop that is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use wt_io::{
    bridge::{port::Port, wake::os_wake},
    driver::event_loop::LoopDriver,
};

/// A loop driver whose event loop never comes, and the ticks of its timer.
fn ticking_without_a_loop() -> (Arc<Port>, Arc<LoopDriver>, Arc<AtomicU32>) {
    let port = Arc::new(Port::new(os_wake().expect("descriptors")));
    let host = LoopDriver::new(port.clone()).expect("a timer descriptor");
    let (driver, ticks) = (host.driver(), Arc::new(AtomicU32::new(0)));
    let (clock, ticking) = (driver.clone(), ticks.clone());
    driver.spawn(async move {
        loop {
            clock.sleep(Duration::from_millis(1)).await;
            ticking.fetch_add(1, SeqCst);
        }
    });
    (port, host, ticks)
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn timers_go_on_while_the_event_loop_is_blocked() {
    let (port, host, ticks) = ticking_without_a_loop();
    // The turn in which the loop sets the timer is its last one for now.
    host.drive();
    wait_until(|| ticks.load(SeqCst) >= 50);
    assert_eq!(port.stats.stand_ins.get(), 1);
    wait_until(|| {
        host.drive(); // does nothing while the stand-in drives
        host.take_gap() > Some(Duration::from_millis(45))
    });
    host.close();
    let ticked = ticks.load(SeqCst);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(ticks.load(SeqCst), ticked, "nothing runs after the end");
}

#[test]
fn a_loop_that_comes_by_takes_over() {
    let (port, host, ticks) = ticking_without_a_loop();
    host.drive();
    wait_until(|| port.stats.stand_ins.get() == 1 && ticks.load(SeqCst) > 0);
    // The loop comes once; then it is blocked anew, which takes the stand-in its patience.
    host.drive();
    wait_until(|| port.stats.stand_ins.get() == 2);
    host.close();
}

#[test]
fn the_last_handle_of_a_driver_may_go_at_any_time() {
    for _ in 0..200 {
        let (port, host, _) = ticking_without_a_loop();
        host.drive();
        host.close();
        drop((host, port));
    }
    for _ in 0..20 {
        let (_, host, ticks) = ticking_without_a_loop();
        host.drive();
        wait_until(|| ticks.load(SeqCst) > 0);
        host.close();
    }
}
