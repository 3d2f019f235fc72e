//! [`join`]: two futures at one time.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

/// Awaits two futures at one time.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut from_a, mut from_b) = (None, None);
    poll_fn(move |context| {
        fn look<F: Future>(
            future: Pin<&mut F>,
            output: &mut Option<F::Output>,
            context: &mut Context<'_>,
        ) {
            if output.is_none()
                && let Poll::Ready(ready) = future.poll(context)
            {
                *output = Some(ready);
            }
        }
        look(a.as_mut(), &mut from_a, context);
        look(b.as_mut(), &mut from_b, context);
        match (from_a.take(), from_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (from_a, from_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
