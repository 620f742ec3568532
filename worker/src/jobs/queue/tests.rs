//! Turns, shares, and the order of one owner's jobs.

use std::net::IpAddr;
use std::time::Duration;

use super::*;

type Jobs = FairQueue<&'static str>;

fn owner(address: u8, name: &str) -> Owner {
    Owner::new(IpAddr::from([10, 0, 0, address]), name)
}

/// A queue with so many places.
fn places<T>(capacity: usize) -> FairQueue<T> {
    FairQueue::new(QueueLimits::of_capacity(capacity))
}

fn push(queue: &mut Jobs, owner: &Owner, job: &'static str) -> Result<(), Full> {
    queue.reserve(owner)?;
    queue.push(owner, Order::default(), job);
    Ok(())
}

fn order(queue: &mut Jobs) -> Vec<&'static str> {
    queue.in_order().into_iter().map(|job| *job).collect()
}

fn drain(queue: &mut Jobs) -> Vec<&'static str> {
    std::iter::from_fn(|| queue.pop_if(|_| true)).collect()
}

#[test]
fn clients_take_turns() {
    for (a, b) in [(owner(1, ""), owner(2, "")), (owner(1, "a"), owner(1, "b"))] {
        let mut queue = places(99);
        for job in ["a1", "a2", "a3"] {
            push(&mut queue, &a, job).unwrap();
        }
        assert_eq!(queue.pop_if(|_| true), Some("a1"));
        for job in ["b1", "b2"] {
            push(&mut queue, &b, job).unwrap();
        }
        let expected = order(&mut queue);
        assert_eq!(expected, ["b1", "a2", "b2", "a3"]);
        assert_eq!(drain(&mut queue), expected);
    }
}

#[test]
fn addresses_take_turns_however_many_names_one_has() {
    let mut queue = places(99);
    for (name, job) in [("x", "x1"), ("y", "y1"), ("z", "z1"), ("z", "z2")] {
        push(&mut queue, &owner(1, name), job).unwrap();
    }
    push(&mut queue, &owner(2, ""), "b1").unwrap();
    push(&mut queue, &owner(2, ""), "b2").unwrap();
    let expected = ["x1", "b1", "y1", "b2", "z1", "z2"];
    assert_eq!(order(&mut queue), expected);
    assert_eq!(drain(&mut queue), expected);
}

/// A client that reconnects for every job, under the same name or not, gets every other
/// turn.
#[test]
fn leaving_and_returning_gains_nothing() {
    for names in [["x"; 4], ["w", "x", "y", "z"]] {
        let mut queue = places(99);
        for job in ["a1", "a2", "a3", "a4"] {
            push(&mut queue, &owner(1, ""), job).unwrap();
        }
        let mut served = vec![queue.pop_if(|_| true).unwrap()];
        for (name, job) in names.iter().zip(["b1", "b2", "b3", "b4"]) {
            push(&mut queue, &owner(2, name), job).unwrap();
            while !served.contains(&job) {
                served.push(queue.pop_if(|_| true).unwrap());
            }
        }
        assert_eq!(served, ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]);
    }
}

#[test]
fn a_latecomer_does_not_catch_up() {
    let mut queue = places(999);
    for _ in 0..50 {
        push(&mut queue, &owner(1, ""), "a").unwrap();
        push(&mut queue, &owner(2, ""), "b").unwrap();
    }
    for _ in 0..60 {
        queue.pop_if(|_| true);
    }
    for _ in 0..20 {
        push(&mut queue, &owner(3, ""), "c").unwrap();
    }
    let next: Vec<_> = drain(&mut queue).into_iter().take(12).collect();
    let count = |name| next.iter().filter(|job| **job == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (4, 4, 4), "{next:?}");
}

#[test]
fn nobody_takes_the_last_places() {
    let take = |queue: &mut Jobs, owner: Owner| {
        (0..).take_while(|_| queue.reserve(&owner).is_ok()).count()
    };
    let mut queue = places(192);
    assert_eq!(take(&mut queue, owner(1, "a")), 64);
    let full = queue.reserve(&owner(1, "a")).unwrap_err();
    assert_eq!((full.owner, full.party, full.free), (64, 64, 128));
    // All other clients at that address, under ever new names.
    let rest: usize = (0..99)
        .map(|i| take(&mut queue, owner(1, &i.to_string())))
        .sum();
    assert_eq!(rest, 32);
    // Other addresses.
    let others: Vec<_> = (2..9).map(|i| take(&mut queue, owner(i, "a"))).collect();
    assert!(others.iter().all(|&places| places > 0), "{others:?}");
    assert_eq!(others[0], 32);
}

#[test]
fn full_means_full() {
    let mut queue = places(1);
    push(&mut queue, &owner(1, ""), "a").unwrap();
    assert!(push(&mut queue, &owner(2, ""), "b").is_err());
    queue.pop_if(|_| true);
    queue.reserve(&owner(2, "")).unwrap();
    assert!(queue.reserve(&owner(3, "")).is_err());
    queue.release(&owner(2, ""));
    push(&mut queue, &owner(3, ""), "c").unwrap();
    assert_eq!(queue.len(), 1);
}

/// A small job does not wait for a large one, not even for one of its own client.
#[test]
fn a_job_that_fits_passes_one_that_does_not() {
    let mut queue = places(99);
    for job in ["large", "small1", "small2"] {
        push(&mut queue, &owner(1, ""), job).unwrap();
    }
    push(&mut queue, &owner(2, ""), "small3").unwrap();
    let small = |job: &&str| job.starts_with("small");
    let passed: Vec<_> = std::iter::from_fn(|| queue.pop_if(small)).collect();
    assert_eq!(passed, ["small1", "small3", "small2"]);
    assert_eq!(drain(&mut queue), ["large"]);
}

#[test]
fn a_job_is_passed_so_many_times_and_no_more() {
    let mut queue = places(999);
    push(&mut queue, &owner(1, ""), "large").unwrap();
    let small = |job: &&str| *job == "small";
    for _ in 0..MOST_OVERTAKINGS {
        push(&mut queue, &owner(1, ""), "small").unwrap();
        assert_eq!(queue.pop_if(small), Some("small"));
    }
    push(&mut queue, &owner(1, ""), "small").unwrap();
    assert_eq!(queue.pop_if(small), None, "the large one's turn has come");
    // That holds up no other client, not even one at the same address.
    for other in [owner(1, "b"), owner(2, "")] {
        push(&mut queue, &other, "small").unwrap();
        assert_eq!(queue.pop_if(small), Some("small"));
    }
    assert_eq!(drain(&mut queue), ["large", "small"]);
}

/// A job of high priority is ahead, so it overtakes nobody and is never held up by one behind.
#[test]
fn priorities_do_not_count_as_overtaking() {
    let mut queue = places(999);
    let owner = owner(1, "");
    push(&mut queue, &owner, "large").unwrap();
    let high = Order {
        priority: Priority::High,
        deadline: None,
    };
    let small = |job: &&str| *job == "small";
    for _ in 0..3 * MOST_OVERTAKINGS {
        queue.reserve(&owner).unwrap();
        queue.push(&owner, high, "small");
        assert_eq!(queue.pop_if(small), Some("small"));
    }
    push(&mut queue, &owner, "small").unwrap();
    assert_eq!(queue.pop_if(small), Some("small"));
}

#[test]
fn an_owners_jobs_run_by_priority_then_deadline_then_arrival() {
    let now = Instant::now();
    let after = |seconds| Some(now + Duration::from_secs(seconds));
    let mut queue = places(99);
    for (priority, deadline, job) in [
        (Priority::Low, after(1), "low"),
        (Priority::Normal, None, "first"),
        (Priority::Normal, after(9), "later"),
        (Priority::Normal, None, "second"),
        (Priority::Normal, after(5), "soon"),
        (Priority::Normal, after(9), "later too"),
        (Priority::High, None, "high"),
        (Priority::High, after(99), "high with a deadline"),
    ] {
        let owner = owner(1, "");
        queue.reserve(&owner).unwrap();
        queue.push(&owner, Order { priority, deadline }, job);
    }
    // Neither changes anything between owners.
    push(&mut queue, &owner(1, "b"), "b").unwrap();
    let expected = [
        "high with a deadline",
        "b",
        "high",
        "soon",
        "later",
        "later too",
        "first",
        "second",
        "low",
    ];
    assert_eq!(order(&mut queue), expected);
    assert_eq!(queue.take_expired(now), Vec::<&str>::new());
    let mut expired = queue.take_expired(now + Duration::from_secs(5));
    expired.sort_unstable();
    assert_eq!(expired, ["low", "soon"]);
    assert_eq!(queue.len(), 7);
    assert_eq!(drain(&mut queue)[2..4], ["high", "later"]);
}

#[test]
fn an_owner_has_no_more_places_than_configured() {
    let mut queue = FairQueue::<&str>::new(QueueLimits {
        capacity: 99,
        per_owner: 2,
    });
    for name in ["a", "b"] {
        queue.reserve(&owner(1, name)).unwrap();
        push_reserved(&mut queue, &owner(1, name));
        queue.reserve(&owner(1, name)).unwrap();
        let full = queue.reserve(&owner(1, name)).unwrap_err();
        assert_eq!((full.owner, full.most), (2, 2));
        let text = full.to_string();
        assert!(
            text.contains("it has 2 of the 99 places and may now have 2;"),
            "{text}"
        );
    }
    queue.release(&owner(1, "a"));
    queue.reserve(&owner(1, "a")).unwrap();
}

fn push_reserved(queue: &mut Jobs, owner: &Owner) {
    queue.push(owner, Order::default(), "job");
}

/// Where tokens are the parties, an address is no share of its own.
#[test]
fn tokens_take_turns_too() {
    let mut queue = places(99);
    let with_token = |token: &str, name| Owner::anonymous(Party::Token(token.into()), name);
    for (owner, job) in [
        (with_token("studio", "a"), "a"),
        (with_token("studio", "b"), "b"),
        (with_token("guest", "c"), "c1"),
        (with_token("guest", "c"), "c2"),
    ] {
        push(&mut queue, &owner, job).unwrap();
    }
    assert_eq!(drain(&mut queue), ["a", "c1", "b", "c2"]);
}

/// Every job of the crowd comes from a new owner at one address.
#[test]
fn ten_thousand_invented_owners_gain_nothing_and_take_no_memory() {
    let mut queue = places(192);
    let mut served = [0, 0];
    for i in 0..10_000 {
        while queue.reserve(&owner(2, "honest")).is_ok() {
            queue.push(&owner(2, "honest"), Order::default(), "honest");
        }
        let invented = owner(1, &i.to_string());
        if queue.reserve(&invented).is_ok() {
            queue.push(&invented, Order::default(), "crowd");
        }
        let job = queue.pop_if(|_| true).unwrap();
        served[usize::from(job == "honest")] += 1;
        assert!(served[0] <= served[1] + 1, "{served:?} after {i}");
        let known: usize = queue.parties.iter().map(|at| at.lanes.len()).sum();
        let places: usize = queue.parties.iter().map(Lanes::places).sum();
        assert!(known <= places && places <= 192);
    }
    assert!(served[1] >= 5000, "{served:?}");
}

/// Jobs of ever new owners, one at a time, at the address of an owner that waits.
#[test]
fn ever_new_names_do_not_starve_an_owner_at_their_address() {
    let mut queue = places(192);
    for _ in 0..20 {
        push(&mut queue, &owner(1, "honest"), "honest").unwrap();
    }
    let mut served = Vec::new();
    for i in 0..38 {
        if !queue.iter().any(|job| *job == "crowd") {
            push(&mut queue, &owner(1, &i.to_string()), "crowd").unwrap();
        }
        served.push(queue.pop_if(|_| true).unwrap());
    }
    let honest = served.iter().filter(|job| **job == "honest").count();
    assert_eq!(honest, 19, "{served:?}");
}

#[test]
fn removal_keeps_the_rest_in_order_and_memory_is_freed() {
    let mut queue = places(99);
    for job in ["a1", "a2", "a3"] {
        push(&mut queue, &owner(1, ""), job).unwrap();
    }
    push(&mut queue, &owner(2, ""), "b1").unwrap();
    assert_eq!(queue.remove(|job| *job == "a2"), ["a2"]);
    assert_eq!(order(&mut queue), ["a1", "b1", "a3"]);
    for i in 0..=255 {
        for name in ["x", "y", "z"] {
            push(&mut queue, &owner(i, name), "c").unwrap();
            queue.remove(|job| *job == "c");
        }
    }
    assert_eq!(queue.parties.len(), 2);
    assert_eq!(queue.remove(|job| job.starts_with('a')), ["a1", "a3"]);
    assert_eq!(drain(&mut queue), ["b1"]);
}
