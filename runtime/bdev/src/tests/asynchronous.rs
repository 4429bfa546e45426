use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::num::NonZeroU16;

use super::{Cores, Held, HeldQueues};
use crate::malloc::{self, MallocOptions};
use crate::{Access, AsyncChannel, IoError, IoStatus, SgList};

fn open(cores: &Cores, name: &str, depth: u16) -> AsyncChannel {
    let disk = cores.registry.open(name, Access::ReadWrite).unwrap();
    let channel = disk.channel(&cores.core(0)).unwrap();
    AsyncChannel::new(&cores.core(0), channel, NonZeroU16::new(depth).unwrap(), "test").unwrap()
}

#[test]
fn operations_are_awaited_one_after_the_other() {
    let mut cores = Cores::new(1);
    let options = MallocOptions { block_size: 512, num_blocks: 64, ..MallocOptions::default() };
    malloc::create(&cores.registry, options).unwrap();
    let channel = open(&cores, "Malloc0", 4);
    let pool = cores.pool.clone();
    let over = Rc::new(RefCell::new(false));
    let flag = Rc::clone(&over);
    cores.core(0).spawn("test", async move {
        let mut buf = pool.alloc(1024).unwrap();
        buf.as_mut_slice().fill(7);
        let (data, status) = channel.write(8, 2, SgList::One(buf)).await;
        assert_eq!(status, Ok(()));
        assert_eq!(channel.flush().await.1, Ok(()));
        assert_eq!(channel.unmap(9, 1).await.1, Ok(()));
        let (data, status) = channel.read(8, 2, data).await;
        assert_eq!(status, Ok(()));
        let bytes = data.as_slice()[0].as_slice();
        assert!(bytes[..512].iter().all(|byte| *byte == 7));
        assert!(bytes[512..].iter().all(|byte| *byte == 0));
        assert_eq!(channel.write_zeroes(8, 1).await.1, Ok(()));
        let (data, status) = channel.read(63, 2, data).await;
        assert_eq!(status, Err(IoError::Nvme { sct: 0, sc: 0x80, dnr: true }));
        assert_eq!(data.len(), 1024, "a refusal gives the data back");
        *flag.borrow_mut() = true;
    });
    (0..20).for_each(|_| cores.round());
    assert!(*over.borrow());
}

/// Starts `count` flushes as tasks; what they end with is collected.
fn flushes(cores: &Cores, channel: &AsyncChannel, count: usize) -> Rc<RefCell<Vec<IoStatus>>> {
    let ended = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..count {
        let (channel, ended) = (channel.clone(), Rc::clone(&ended));
        cores.core(0).spawn("flush", async move {
            let (_, status) = channel.flush().await;
            ended.borrow_mut().push(status);
        });
    }
    ended
}

#[test]
fn more_operations_than_slots_or_queue_entries_wait_their_turn() {
    for (slots, depth) in [(2, 8), (8, 2), (1, 1)] {
        let mut cores = Cores::new(1);
        Held::register(&cores.registry, "disk", depth);
        let channel = open(&cores, "disk", slots);
        let ended = flushes(&cores, &channel, 20);
        let queues = HeldQueues::of(&cores.core(0));
        for _ in 0..200 {
            cores.round();
            let accepted = queues.accepted.borrow().len();
            assert!(accepted <= depth.min(usize::from(slots)));
            if accepted > 0 {
                queues.end_one(Ok(()));
            }
        }
        assert_eq!(ended.borrow().len(), 20);
    }
}

#[test]
fn a_dropped_future_leaves_its_buffer_with_the_device() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let channel = open(&cores, "disk", 1);
    let queues = HeldQueues::of(&cores.core(0));
    let free = cores.pool.stats().bytes_free;
    let buf = cores.pool.alloc(512).unwrap();
    let mut transfer = Some(alloc::boxed::Box::pin(channel.read(0, 1, SgList::One(buf))));
    cores.core(0).spawn("drop", async move {
        core::future::poll_fn(|cx| {
            let polled = transfer.as_mut().unwrap().as_mut().poll(cx);
            assert!(polled.is_pending());
            transfer = None;
            core::task::Poll::Ready(())
        })
        .await;
    });
    cores.round();
    assert_eq!(queues.accepted.borrow().len(), 1);
    assert_eq!(cores.pool.stats().bytes_free, free - 512, "the device still has it");
    let ended = flushes(&cores, &channel, 1);
    cores.round();
    assert_eq!(queues.accepted.borrow().len(), 1, "the orphan keeps its slot");
    queues.end_one(Ok(()));
    (0..3).for_each(|_| cores.round());
    assert_eq!(cores.pool.stats().bytes_free, free);
    queues.end_one(Err(IoError::Aborted));
    (0..3).for_each(|_| cores.round());
    assert_eq!(*ended.borrow(), [Err(IoError::Aborted)]);
}

#[test]
fn waiting_tasks_that_vanish_do_not_swallow_a_wake_up() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let channel = open(&cores, "disk", 1);
    let queues = HeldQueues::of(&cores.core(0));
    let first = flushes(&cores, &channel, 1);
    let gone = Rc::new(RefCell::new(Some(alloc::boxed::Box::pin(channel.flush()))));
    let other = Rc::clone(&gone);
    cores.core(0).spawn("waits, then goes", async move {
        core::future::poll_fn(|cx| match other.borrow_mut().as_mut() {
            Some(transfer) => transfer.as_mut().poll(cx).map(drop),
            None => core::task::Poll::Ready(()),
        })
        .await;
    });
    let last = flushes(&cores, &channel, 1);
    cores.round();
    gone.borrow_mut().take();
    queues.end_one(Ok(()));
    (0..3).for_each(|_| cores.round());
    assert_eq!(first.borrow().len(), 1);
    queues.end_one(Ok(()));
    (0..3).for_each(|_| cores.round());
    assert_eq!(last.borrow().len(), 1);
}

#[test]
fn dropping_the_last_clone_ends_the_poller() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let channel = open(&cores, "disk", 1);
    cores.round();
    assert_eq!(cores.core(0).pollers().len(), 1);
    drop(channel);
    cores.round();
    assert_eq!(cores.core(0).pollers().len(), 0);
    cores.registry.unregister("disk").unwrap();
}
