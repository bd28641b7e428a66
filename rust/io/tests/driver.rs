//! The I/O thread: whoever wakes it again and again must not keep it from its timers and sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use wt_io::driver::thread::IoThread;

#[test]
fn a_thread_that_spawns_without_end_leaves_turns_to_timers() {
    let driver = IoThread::driver().expect("a thread");
    let (ticks, ran) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (ticking, clock) = (ticks.clone(), driver.clone());
    driver.spawn(async move {
        loop {
            clock.sleep(Duration::from_millis(1)).await;
            ticking.fetch_add(1, SeqCst);
        }
    });
    let end = Instant::now() + Duration::from_millis(500);
    let mut spawned = 0;
    while Instant::now() < end {
        // So many wait that the queue is never empty.
        spawned += 1;
        let counter = ran.clone();
        driver.spawn(async move {
            counter.fetch_add(1, SeqCst);
        });
        while ran.load(SeqCst) + 1000 < spawned && Instant::now() < end {
            std::hint::spin_loop();
        }
    }
    assert!(
        ticks.load(SeqCst) > 50,
        "{} timers in 500 ms, {spawned} tasks",
        ticks.load(SeqCst)
    );
}
