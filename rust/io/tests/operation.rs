//! Operations: their result is there once, and nothing of it is left when nobody wants it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use wt_io::{
    bridge::{port::Port, wake::os_wake},
    driver::{Driver, thread::IoThread},
    operation::{Gone, Operation},
};

fn place() -> (Driver, Arc<Port>) {
    let driver = IoThread::driver().expect("a thread");
    (driver, Arc::new(Port::new(os_wake().expect("a descriptor"))))
}

/// Counts itself when it is undone.
struct Made(Arc<AtomicUsize>);

impl Made {
    fn undo(self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Look until the operation is over; the result is left there.
fn wait<T: Send + 'static>(operation: &Arc<Operation<T>>) {
    for _ in 0..1000 {
        if operation.ready().is_ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the operation does not end");
}

#[test]
fn a_result_is_there_once() {
    let (driver, port) = place();
    let operation = Operation::start(&driver, port, async { 7 }, drop);
    wait(&operation);
    assert_eq!(operation.take(), Some(Ok(7)));
    assert_eq!(operation.take(), Some(Err(Gone)));
}

#[test]
fn a_result_that_nobody_took_is_undone() {
    let (driver, port) = place();
    let undone = Arc::new(AtomicUsize::new(0));
    let made = Made(undone.clone());
    let operation = Operation::start(&driver, port, async { made }, Made::undo);
    wait(&operation);
    operation.cancel();
    operation.cancel();
    assert_eq!(undone.load(SeqCst), 1);
}

#[test]
fn a_cancelled_operation_ends_where_it_waits() {
    let (driver, port) = place();
    let undone = Arc::new(AtomicUsize::new(0));
    let made = Made(undone.clone());
    let held = Arc::downgrade(&undone);
    drop(undone);
    let never = async move {
        std::future::pending::<()>().await;
        made
    };
    let operation = Operation::start(&driver, port, never, Made::undo);
    operation.cancel();
    wait(&operation);
    assert!(
        held.upgrade().is_none(),
        "the future is dropped, and nothing has come of it"
    );
}

#[test]
fn a_panic_is_an_end_too() {
    let (driver, port) = place();
    let operation: Arc<Operation<()>> = Operation::start(&driver, port, async { panic!("as the test wants it") }, drop);
    wait(&operation);
    assert_eq!(operation.take(), Some(Err(Gone)));
}
