//! Backends whose requests are served by futures, or on other threads.

use crate::files;
use crate::house::House;
use crate::properties::load;
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ublkit::kernel::Kernel;
use ublkit::sim::{Ask, Choices, Profile, Sim, Task as Kernels};
use ublkit::{
    Access, Backend, DataPath, Errno, FileIndex, Job, Memory, Needs, Offload, Operation, Request,
    Server, Target, Task, Tasks,
};

/// Does to memory what a request asks, of data that is there.
fn apply(memory: &Memory, request: Request, data: &mut [u8]) -> Result<(), Errno> {
    let Request { operation, offset, len_bytes, .. } = request;
    match operation {
        Operation::Read => memory.read(offset, data),
        Operation::Write { .. } => memory.write(offset, data),
        Operation::Flush => memory.flush(),
        Operation::Discard => memory.discard(offset, len_bytes),
        Operation::WriteZeroes { may_unmap } => memory.write_zeroes(offset, len_bytes, may_unmap),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Waits a little and then does it.
async fn after_a_while(task: Task, memory: Memory) -> Result<(), Errno> {
    task.sleep(Duration::from_micros(100)).await?;
    task.with_data(|data| apply(&memory, task.request(), data))?
}

fn life(sim: &Sim, server: Result<Server<Kernels>, ublkit::Error>) -> u64 {
    let server = server.unwrap();
    let clients = sim.load(server.id(), load(200));
    sim.until_answered();
    let meters = server.meters().to_vec();
    let in_flight: u32 = meters.iter().map(|meter| meter.read().in_flight).sum();
    assert_eq!(in_flight, 0, "all that waited elsewhere was answered");
    let stats = server.stop().unwrap();
    assert!(meters.iter().zip(&stats).all(|(meter, stats)| meter.read().stats == *stats));
    sim.assert_clean();
    assert_eq!(sim.audit().delivered, sim.audit().committed);
    sim.tally(clients).succeeded
}

/// P17, P29: futures that wait for operations of their own ring serve what they are asked.
#[test]
fn futures_serve() {
    for &path in &[DataPath::Copy, DataPath::GetData, DataPath::UserCopy] {
        for batches in [false, files::has_batches(Profile::NEWEST, path)] {
            for seed in 0..10 {
                let house = House { path, batches, access: Access::Slices, ..House::new() };
                let sim = house.sim(Choices::seed(seed));
                let memory = Memory::new(house.geometry).unwrap();
                let geometry = memory.geometry();
                let needs = Needs { operations: 1, ..Needs::default() };
                let disk =
                    Tasks::new(geometry, needs, move |task| after_a_while(task, memory.clone()));
                assert_eq!(life(&sim, house.serve_target(sim.task(), disk)), 200);
            }
        }
    }
}

/// One request, asked of a future; with how many operations it may have.
fn asked<F>(operations: u8, serve: impl Fn(Task) -> F + Send + Sync + 'static) -> Result<(), Errno>
where
    F: Future<Output = Result<(), Errno>> + 'static,
{
    let house = House::new();
    let sim = house.sim(Choices::first());
    let needs = Needs { operations, ..Needs::default() };
    let server = house.serve_target(sim.task(), Tasks::new(house.geometry, needs, serve)).unwrap();
    let ask = Ask::Read { offset: 4096, len_bytes: 512 };
    let number = sim.ask(server.id(), 0, ask).unwrap();
    sim.until_answered();
    server.stop().unwrap();
    sim.assert_clean();
    sim.answer(number).unwrap().map(drop)
}

/// Mistakes of futures cost their own requests.
#[test]
fn futures_mistakes() {
    let moment = Duration::from_millis(1);
    let panics = asked(1, |_| async { panic!("a whim") });
    assert_eq!(panics, Err(Errno::EIO));
    let later = asked(1, move |task: Task| async move {
        task.sleep(moment).await?;
        panic!("a whim")
    });
    assert_eq!(later, Err(Errno::EIO));
    let too_many = asked(1, move |task: Task| async move {
        let (one, other) = ublkit::join(task.sleep(moment), task.sleep(moment)).await;
        assert_eq!((one, other), (Ok(()), Err(Errno::EBUSY)));
        Ok(())
    });
    assert_eq!(too_many, Ok(()));
    let no_file = asked(1, |task: Task| async move { task.sync(FileIndex(7), true).await });
    assert_eq!(no_file, Err(Errno::EIO), "EBADF, which no client is told");
    let within = asked(1, |task: Task| async move {
        let twice = task.with_data(|_| task.with_data(|_| ()));
        assert_eq!(twice, Ok(Err(Errno::EIO)), "one look at a time");
        Ok(())
    });
    assert_eq!(within, Ok(()));
    // What was begun and is not awaited any more is waited for all the same.
    let given_up = asked(2, move |task: Task| async move {
        let mut slow = std::pin::pin!(task.sleep(moment));
        std::future::poll_fn(|context| {
            assert!(slow.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        task.with_data(|data| data.fill(0))
    });
    assert_eq!(given_up, Ok(()));
}

/// A task that somebody kept is nobody's any more, though its slot has another request.
#[test]
fn a_kept_task_does_nothing() {
    thread_local!(static KEPT: RefCell<Option<Task>> = const { RefCell::new(None) });
    let results = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&results);
    let serve = move |task: Task| {
        let seen = Arc::clone(&seen);
        async move {
            let used = KEPT.with_borrow(|kept| kept.as_ref().map(|it| it.with_data(|_| ())));
            seen.lock().unwrap().extend(used);
            task.with_data(|data| data.fill(0))?;
            KEPT.replace(Some(task));
            Ok(())
        }
    };
    let house = House { queues: 1, depth: 1, ..House::new() };
    let sim = house.sim(Choices::first());
    let disk = Tasks::new(house.geometry, Needs::default(), serve);
    let server = house.serve_target(sim.task(), disk).unwrap();
    for _ in 0..3 {
        sim.ask(server.id(), 0, Ask::Read { offset: 0, len_bytes: 512 }).unwrap();
        sim.until_answered();
    }
    server.stop().unwrap();
    sim.assert_clean();
    let results = results.lock().unwrap();
    assert!(results.len() >= 3 && results.iter().all(|it| *it == Err(Errno::EIO)), "{results:?}");
}

/// P17: jobs that are answered by another thread, or dropped, are answers of their requests.
#[test]
fn jobs_are_answered() {
    for batches in [false, true] {
        for seed in 0..10 {
            let house = House { batches, ..House::new() };
            let sim = house.sim(Choices::seed(seed));
            let memory = Memory::new(house.geometry).unwrap();
            let geometry = memory.geometry();
            let jobs: Arc<Mutex<Vec<Job>>> = Arc::default();
            let there = Arc::new(sim.task().event().unwrap());
            let (put, kernel, told) = (Arc::clone(&jobs), sim.task(), Arc::clone(&there));
            let disk = Offload::new(geometry, move |job| {
                put.lock().unwrap().push(job);
                kernel.signal(&told);
            });
            let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (end, own) = (Arc::clone(&ended), Arc::clone(&there));
            let mut thread = sim
                .task()
                .spawn("jobs".into(), move |kernel: Kernels| {
                    while !end.load(std::sync::atomic::Ordering::Relaxed) {
                        kernel.wait(&own, None);
                        kernel.clear(&own);
                        loop {
                            let job = jobs.lock().unwrap().pop(); // the newest first
                            let Some(mut job) = job else { break };
                            let answer = apply(&memory, job.request(), job.data());
                            job.answer(answer);
                        }
                    }
                })
                .unwrap();
            assert_eq!(life_of(&sim, house.serve_target(sim.task(), disk)), 200);
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            sim.task().signal(&there);
            assert!(sim.task().join(&mut thread, Duration::from_secs(60)));
            drop(there);
            sim.assert_clean();
        }
    }
}

/// As [`life`], while there is more than the device.
fn life_of(sim: &Sim, server: Result<Server<Kernels>, ublkit::Error>) -> u64 {
    let server = server.unwrap();
    let clients = sim.load(server.id(), load(200));
    sim.until_answered();
    server.stop().unwrap();
    sim.tally(clients).succeeded
}

#[test]
fn a_job_that_is_dropped_fails() {
    let house = House::new();
    let sim = house.sim(Choices::first());
    let disk = Offload::new(house.geometry, drop);
    assert!(disk.needs().wakers);
    let server = house.serve_target(sim.task(), disk).unwrap();
    let ask = Ask::Read { offset: 0, len_bytes: 512 };
    let number = sim.ask(server.id(), 0, ask).unwrap();
    sim.until_answered();
    assert_eq!(sim.answer(number).unwrap(), Err(Errno::EIO));
    server.stop().unwrap();
    sim.assert_clean();
}
