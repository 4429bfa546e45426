//! The rings against plain models, and under threads.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use basalt_ring::{Full, InlineFn, mpsc, oneshot, spsc};
use proptest::prelude::*;

proptest! {
    #[test]
    fn spsc_behaves_as_a_bounded_deque(
        capacity in 1usize..20,
        pushes in prop::collection::vec(any::<bool>(), 0..300),
    ) {
        let (mut producer, mut consumer) = spsc::channel(capacity);
        let mut model = VecDeque::new();
        let capacity = capacity.next_power_of_two().max(2);
        prop_assert_eq!(producer.capacity(), capacity);
        for (value, push) in pushes.into_iter().enumerate() {
            if push {
                let expected = if model.len() < capacity { Ok(()) } else { Err(Full(value)) };
                prop_assert_eq!(producer.push(value), expected);
                if expected.is_ok() {
                    model.push_back(value);
                }
            } else {
                prop_assert_eq!(consumer.pop(), model.pop_front());
            }
            prop_assert_eq!(consumer.len(), model.len());
            prop_assert_eq!(producer.room(), capacity - model.len());
        }
    }

    #[test]
    fn mpsc_behaves_as_a_bounded_deque(
        capacity in 1usize..20,
        pushes in prop::collection::vec(any::<bool>(), 0..300),
    ) {
        let (producer, mut consumer) = mpsc::channel(capacity);
        let producers = [producer.clone(), producer];
        let mut model = VecDeque::new();
        let capacity = capacity.next_power_of_two().max(2);
        for (value, push) in pushes.into_iter().enumerate() {
            if push {
                let room = model.len() < capacity;
                let expected = if room { Ok(()) } else { Err(mpsc::PushError::Full(value)) };
                prop_assert_eq!(producers[value % 2].push(value), expected);
                if room {
                    model.push_back(value);
                }
            } else {
                prop_assert_eq!(consumer.pop(), model.pop_front());
            }
            prop_assert_eq!(consumer.is_empty(), model.is_empty());
        }
    }
}

#[test]
fn spsc_moves_a_hundred_thousand_values_between_threads_in_order() {
    const COUNT: usize = 100_000;
    let (mut producer, mut consumer) = spsc::channel(64);
    let thread = thread::spawn(move || {
        for value in 0..COUNT {
            while producer.push(Box::new(value)).is_err() {
                thread::yield_now();
            }
        }
    });
    for expected in 0..COUNT {
        let value = loop {
            match consumer.pop() {
                Some(value) => break *value,
                None => thread::yield_now(),
            }
        };
        assert_eq!(value, expected);
    }
    thread.join().unwrap();
    assert!(consumer.is_empty() && consumer.is_abandoned());
}

#[test]
fn mpsc_moves_the_values_of_many_threads_each_in_order() {
    const THREADS: usize = 4;
    const COUNT: usize = 25_000;
    let (producer, mut consumer) = mpsc::channel(64);
    let threads: Vec<_> = (0..THREADS)
        .map(|id| {
            let producer = producer.clone();
            thread::spawn(move || {
                for value in 0..COUNT {
                    let mut next = Box::new((id, value));
                    while let Err(refused) = producer.push(next) {
                        next = refused.into_inner();
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut expected = [0; THREADS];
    while expected.iter().sum::<usize>() < THREADS * COUNT {
        let Some(next) = consumer.pop() else {
            thread::yield_now();
            continue;
        };
        let (id, value) = *next;
        assert_eq!(value, expected[id]);
        expected[id] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(consumer.is_empty());
}

#[test]
fn what_nobody_took_is_dropped_with_its_ring() {
    let value = Arc::new(());
    let (mut producer, consumer) = spsc::channel(8);
    let (many, single) = mpsc::channel(8);
    for _ in 0..5 {
        producer.push(value.clone()).unwrap();
        many.push(value.clone()).unwrap();
    }
    assert_eq!(Arc::strong_count(&value), 11);
    drop(consumer);
    assert!(producer.is_abandoned());
    drop(producer);
    drop(single);
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(many.push(value.clone()), Err(mpsc::PushError::Closed(value.clone())));
    assert!(many.is_closed());
}

#[test]
fn an_inline_closure_runs_once_and_drops_its_captures_once() {
    let value = Arc::new(());
    let (sender, captured) = (Arc::new(std::sync::Mutex::new(0)), value.clone());
    let sum = sender.clone();
    let f = InlineFn::new(move |n: &i32| {
        let _captured = captured;
        *sum.lock().unwrap() += n;
    });
    f.call(&5);
    assert_eq!((*sender.lock().unwrap(), Arc::strong_count(&value)), (5, 1));
}

#[test]
fn an_inline_closure_never_run_drops_its_captures() {
    let value = Arc::new(());
    let captured = value.clone();
    let f = InlineFn::new(move |(): &()| drop(captured));
    assert_eq!(Arc::strong_count(&value), 2);
    drop(f);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn an_inline_closure_that_panics_drops_its_captures_once() {
    let value = Arc::new(());
    let captured = value.clone();
    let f = InlineFn::new(move |(): &()| {
        let _captured = captured;
        panic!("on purpose");
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f.call(&())));
    assert!(caught.is_err());
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn forty_eight_bytes_of_captures_fit() {
    let words = [1u64, 2, 3, 4, 5, 6];
    let (producer, mut consumer) = mpsc::channel(2);
    producer
        .push(InlineFn::new(move |sum: &u64| assert_eq!(words.iter().sum::<u64>(), *sum)))
        .unwrap();
    consumer.pop().unwrap().call(&21);
}

#[test]
fn a_oneshot_wakes_with_the_latest_waker_only() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let (sender, receiver) = oneshot::channel();
    let mut receiver = pin!(receiver);
    for count in [&old, &new] {
        let waker = Waker::from(count.clone());
        assert!(receiver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(!sender.is_abandoned());
    sender.send(3);
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(receiver.as_mut().poll(&mut context), Poll::Ready(Ok(3)));
}
