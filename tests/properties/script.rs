//! Scripts of steps, which proptest generates. Times are numbers of units.

use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Succeed,
    Fail,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Ends when a later step opens its gate.
    Gated,
    /// Executes on its own bulkhead and waits for that, so many levels deep, all with the same end.
    Nested(u32),
}

#[derive(Clone, Copy, Debug)]
pub struct Task(pub Kind, pub End);

pub const QUICK: Kind = Kind::Nested(0);

#[derive(Clone, Copy, Debug)]
pub enum Way {
    Execute,
    TryExecute,
    /// With its queue timeout, its timeout, and ready to wait for a place for no time at all.
    Call(Option<u32>, Option<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shutdown {
    Now,
    AtItsLimit,
    WithinItsLimit,
    Unlimited,
}

/// A `usize` chooses among the calls that are eligible at that moment.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Submit(Way, Task),
    /// Runs a quick task, and waits for it at once.
    Run(End),
    /// Submits and cancels at once, so many times, which leaves as many empty entries in the queue.
    Churn(u32),
    /// Submits, and waits for a place if there is none.
    WaitForCapacity(Task, usize),
    Open(usize),
    Cancel(usize),
    Wait(usize),
    WaitBriefly(usize),
    /// As a future.
    Poll(usize),
    Drop(usize),
    /// Drops a handle that was made one that cancels on drop.
    DropGuard(usize),
    Advance(u32),
    /// Gives the bulkhead another N and another Q.
    Resize(usize, usize),
    ResetStats,
    ShutDown(Shutdown),
}

pub fn script(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    use Shutdown::{AtItsLimit, Now, Unlimited, WithinItsLimit};
    let which = || 0_usize..8;
    let kind = prop_oneof![
        3 => Just(QUICK),
        4 => Just(Kind::Gated),
        2 => (1_u32..=3).prop_map(Kind::Nested),
    ];
    let end = prop_oneof![3 => Just(End::Succeed), 2 => Just(End::Fail), 1 => Just(End::Panic)];
    let task = (kind, end).prop_map(|(kind, end)| Task(kind, end)).boxed();
    let limit = || prop::option::of(0_u32..=4);
    let way = prop_oneof![
        3 => Just(Way::Execute),
        2 => Just(Way::TryExecute),
        4 => (limit(), limit()).prop_map(|(in_queue, in_all)| Way::Call(in_queue, in_all)),
    ];
    let step = prop_oneof![
        24 => (way, task.clone()).prop_map(|(way, task)| Step::Submit(way, task)),
        6 => select(vec![End::Succeed, End::Panic]).prop_map(Step::Run),
        3 => (1_u32..=16).prop_map(Step::Churn),
        4 => (task, which()).prop_map(|(task, which)| Step::WaitForCapacity(task, which)),
        12 => which().prop_map(Step::Open),
        7 => which().prop_map(Step::Cancel),
        6 => which().prop_map(Step::Wait),
        6 => which().prop_map(Step::WaitBriefly),
        4 => which().prop_map(Step::Poll),
        4 => which().prop_map(Step::Drop),
        4 => which().prop_map(Step::DropGuard),
        6 => (1_u32..=4).prop_map(Step::Advance),
        3 => (1_usize..=4, 0_usize..=5).prop_map(|(n, q)| Step::Resize(n, q)),
        2 => Just(Step::ResetStats),
        2 => select(vec![Now, AtItsLimit, WithinItsLimit, Unlimited]).prop_map(Step::ShutDown),
    ];
    prop::collection::vec(step, 1..=longest)
}
