/// What `of` gives for each, in order, by as many threads as there are processors.
pub(super) fn in_parallel<I: Sync, T: Send>(items: &[I], of: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = items.len().div_ceil(threads).max(1);
    let of = &of;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(of).collect::<Vec<_>>()))
            .collect();
        // A thread ends early only by a panic, which is then this one's too.
        let join = |part: std::thread::ScopedJoinHandle<'_, Vec<T>>| match part.join() {
            Ok(values) => values,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        parts.into_iter().flat_map(join).collect()
    })
}
