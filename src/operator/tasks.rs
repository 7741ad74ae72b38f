//! The tasks that have to run as long as the operator, or a part of it. If one ends or panics, the operator must not go on
//! without it: a new process starts with all of them.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::JoinSet;

/// The tasks of a part. The value of a task is its name.
pub(crate) type Tasks = JoinSet<&'static str>;

/// Starts a task.
pub(crate) fn spawn(tasks: &mut Tasks, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        // The panic has been reported on standard error. Its task is not polled any more.
        let _ = AssertUnwindSafe(task).catch_unwind().await;
        name
    });
}

/// Waits until a task ends, and returns its name. Without tasks, the wait never ends.
pub(crate) async fn ended(tasks: &mut Tasks) -> &'static str {
    match tasks.join_next().await {
        Some(ended) => ended.unwrap_or("a task"),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn task_that_ends_or_panics_is_named() {
        let mut tasks = Tasks::new();
        assert!(timeout(Duration::from_secs(1), ended(&mut tasks)).await.is_err(), "there is no task");
        spawn(&mut tasks, "endless", std::future::pending());
        assert!(timeout(Duration::from_secs(1), ended(&mut tasks)).await.is_err(), "the task runs");
        spawn(&mut tasks, "short", async {});
        assert_eq!(ended(&mut tasks).await, "short");
        spawn(&mut tasks, "broken", async { panic!("as expected") });
        assert_eq!(ended(&mut tasks).await, "broken");
    }
}
