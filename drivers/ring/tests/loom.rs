//! Models of every ordering claim, run under loom's exhaustive scheduler:
//! `RUSTFLAGS="--cfg loom" cargo test -p basalt-ring --release --test loom`.
#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use basalt_ring::{Bell, mpsc, oneshot, spsc};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

struct Unpark(Notify);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Polls until ready, waiting for a wake in between: a lost one is a deadlock that loom reports.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let unpark = Arc::new(Unpark(Notify::new()));
    let waker = Waker::from(unpark.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        unpark.0.wait();
    }
}

/// A value on the heap: loom reports it if it is lost, and the sanitisers if it is doubled.
fn boxed(value: usize) -> Box<usize> {
    Box::new(value)
}

#[test]
fn spsc_hands_over_every_value_in_order_across_the_wrap() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::channel(2);
        let thread = thread::spawn(move || {
            for value in 0..3 {
                let mut next = boxed(value);
                while let Err(full) = producer.push(next) {
                    next = full.0;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let value = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*value, expected);
        }
        thread.join().unwrap();
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn spsc_drops_what_was_never_taken_whichever_half_goes_first() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::channel(2);
        let thread = thread::spawn(move || {
            let _ = producer.push(boxed(1));
            let _ = producer.push(boxed(2));
        });
        let _ = consumer.pop();
        drop(consumer);
        thread.join().unwrap();
    });
}

#[test]
fn mpsc_gives_every_value_of_two_producers_once_and_each_ones_in_order() {
    let mut model = loom::model::Builder::new();
    // Without a bound three threads take hours; races need few preemptions.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (producer, mut consumer) = mpsc::channel(2);
        let other = producer.clone();
        let pair = thread::spawn(move || {
            [producer.push(boxed(10)).is_ok(), producer.push(boxed(11)).is_ok()]
        });
        let single = thread::spawn(move || other.push(boxed(20)).is_ok());
        let mut seen: Vec<_> = consumer.pop().into_iter().collect();
        let [first, second] = pair.join().unwrap();
        let other = single.join().unwrap();
        seen.extend(std::iter::from_fn(|| consumer.pop()));
        let seen: Vec<_> = seen.into_iter().map(|value| *value).collect();
        let of_pair: Vec<_> = seen.iter().copied().filter(|value| *value < 20).collect();
        let sent = [(first, 10), (second, 11)];
        let accepted: Vec<_> =
            sent.into_iter().filter_map(|(sent, value)| sent.then_some(value)).collect();
        assert_eq!(of_pair, accepted);
        assert_eq!(seen.contains(&20), other);
        assert!(seen.len() >= 2, "two slots were free from the start");
    });
}

#[test]
fn mpsc_lets_a_producer_reuse_the_slot_the_consumer_freed() {
    loom::model(|| {
        let (producer, mut consumer) = mpsc::channel(2);
        producer.push(boxed(0)).unwrap();
        producer.push(boxed(1)).unwrap();
        let thread = thread::spawn(move || producer.push(boxed(2)).is_ok());
        assert_eq!(*consumer.pop().unwrap(), 0);
        let pushed = thread.join().unwrap();
        assert_eq!(*consumer.pop().unwrap(), 1);
        assert_eq!(consumer.pop().map(|value| *value), pushed.then_some(2));
    });
}

#[test]
fn mpsc_refuses_after_the_consumer_left_and_drops_what_was_on_its_way() {
    loom::model(|| {
        let (producer, consumer) = mpsc::channel(2);
        let other = producer.clone();
        let thread = thread::spawn(move || {
            let _ = other.push(boxed(1));
        });
        drop(consumer);
        thread.join().unwrap();
        assert!(matches!(producer.push(boxed(2)), Err(mpsc::PushError::Closed(_))));
    });
}

#[test]
fn oneshot_delivers_whether_the_receiver_waits_or_comes_late() {
    loom::model(|| {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(boxed(7)));
        assert_eq!(block_on(receiver), Ok(boxed(7)));
        thread.join().unwrap();
    });
}

#[test]
fn oneshot_tells_the_receiver_that_the_sender_left() {
    loom::model(|| {
        let (sender, receiver) = oneshot::channel::<Box<usize>>();
        let thread = thread::spawn(move || drop(sender));
        assert_eq!(block_on(receiver), Err(oneshot::Canceled));
        thread.join().unwrap();
    });
}

#[test]
fn oneshot_survives_a_receiver_that_leaves() {
    loom::model(|| {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(boxed(7)));
        drop(receiver);
        thread.join().unwrap();
    });
}

/// Leaves work by `leave`, looks for it by `look`: it is found, or the bell is rung.
fn nobody_sleeps_beside_work(
    leave: fn(&AtomicUsize),
    look: fn(&AtomicUsize) -> usize,
    must_ring: fn(&Bell) -> bool,
) {
    loom::model(move || {
        let shared = loom::sync::Arc::new((Bell::default(), AtomicUsize::new(0)));
        let visited = shared.clone();
        let visitor = thread::spawn(move || {
            let (bell, work) = &*visited;
            leave(work);
            must_ring(bell)
        });
        let (bell, work) = &*shared;
        bell.lie_down();
        let found = look(work) != 0;
        let rung = visitor.join().unwrap();
        assert!(found || rung, "it sleeps beside its work");
        bell.get_up();
    });
}

#[test]
fn a_sleeper_finds_what_was_left_for_it_or_is_rung() {
    nobody_sleeps_beside_work(
        |work| work.store(1, Ordering::Release),
        |work| work.load(Ordering::Acquire),
        Bell::must_ring,
    );
}

#[test]
fn a_sleeper_finds_what_was_exchanged_for_it_or_is_rung() {
    nobody_sleeps_beside_work(
        |work| {
            work.swap(1, Ordering::SeqCst);
        },
        |work| work.swap(0, Ordering::SeqCst),
        Bell::must_ring_after_fence,
    );
}

#[test]
fn of_several_visitors_one_rings() {
    loom::model(|| {
        let bell = loom::sync::Arc::new(Bell::default());
        bell.lie_down();
        let other = bell.clone();
        let visitor = thread::spawn(move || other.must_ring());
        let rings = usize::from(bell.must_ring()) + usize::from(visitor.join().unwrap());
        assert_eq!(rings, 1);
    });
}
