//! A save that is larger than the server takes is made as several smaller ones.

use crate::api::sessions::SaveAnswer;
use crate::error::{AppError, ErrorCode};
use crate::model::Object;
use crate::model::message::MessageInput;
use std::collections::VecDeque;

/// What became of a save.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The last answer; its `merged` is that of all.
    pub answer: Option<SaveAnswer>,
    /// The ids of the messages that are on the server's disk now.
    pub saved: Vec<String>,
    /// The ids of those that the server does not even take one by one, and of those that follow them.
    pub too_large: Vec<String>,
    /// Why the rest is not saved, the changes of the session's metadata included; `None` if all of it is.
    pub error: Option<AppError>,
}

/// Saves messages, parents first, and then the changes of the session's metadata: in one request if the server takes it, else in
/// as many as it takes. `base_revision` is the one that is known before; each request is told what the one before it was answered.
pub async fn save<Answer: Future<Output = Result<SaveAnswer, AppError>>>(
    messages: Vec<MessageInput>,
    metadata: Option<Object>,
    base_revision: Option<u64>,
    mut post: impl FnMut(Vec<MessageInput>, Option<Object>, Option<u64>) -> Answer,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut left = VecDeque::from(messages);
    let (mut metadata, mut base) = (metadata, base_revision);
    // As long as all goes in one request it is not limited.
    let mut most = None;
    while !left.is_empty() || metadata.is_some() {
        let count = most.map_or(left.len(), |most| left.len().min(most));
        let with = metadata.clone().filter(|_| most.is_none() || left.is_empty());
        let has_metadata = with.is_some();
        match post(left.range(..count).cloned().collect(), with, base).await {
            Ok(answer) => {
                outcome.saved.extend(left.drain(..count).filter_map(|message| message.id));
                if has_metadata {
                    metadata = None;
                }
                base = base.map(|_| answer.revision);
                let merged = answer.merged || outcome.answer.is_some_and(|before| before.merged);
                outcome.answer = Some(SaveAnswer { merged, ..answer });
            }
            Err(error) if error.code != ErrorCode::BodyTooLarge || count == 0 => {
                outcome.error = Some(error);
                break;
            }
            Err(_) if count > 1 || has_metadata => most = Some(count.div_ceil(2)),
            Err(_) => {
                outcome.too_large.extend(left.pop_front().and_then(|message| message.id));
                // The server takes nothing whose parent it does not have.
                let too_large = &mut outcome.too_large;
                left.retain(|message| {
                    let follows = matches!(&message.parent_id, Some(Some(parent)) if too_large.contains(parent));
                    if follows {
                        too_large.extend(message.id.clone());
                    }
                    !follows
                });
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::cell::RefCell;

    /// The ids of the messages of a request, whether metadata came along, and the revision that was known.
    type Request = (Vec<String>, bool, Option<u64>);

    /// A server that takes so many bytes of content at once, refuses what follows nothing that it has, and keeps what it is sent.
    struct Server {
        limit: usize,
        requests: RefCell<Vec<Request>>,
        kept: RefCell<Vec<String>>,
    }

    impl Server {
        fn new(limit: usize) -> Self {
            Self { limit, requests: RefCell::default(), kept: RefCell::default() }
        }

        fn save(
            &self,
            messages: &[MessageInput],
            metadata: Option<Object>,
            base: Option<u64>,
        ) -> Result<SaveAnswer, AppError> {
            let ids: Vec<String> = messages.iter().filter_map(|message| message.id.clone()).collect();
            self.requests.borrow_mut().push((ids.clone(), metadata.is_some(), base));
            let size: usize = messages.iter().map(|message| message.content.len()).sum::<usize>()
                + metadata.map_or(0, |metadata| Value::from(metadata).to_string().len());
            if size > self.limit {
                return Err(AppError::new(ErrorCode::BodyTooLarge, "too large"));
            }
            for message in messages {
                let mut kept = self.kept.borrow_mut();
                if let Some(Some(parent)) = &message.parent_id {
                    assert!(kept.contains(parent), "{message:?} follows nothing");
                }
                kept.extend(message.id.clone());
            }
            let revision = self.requests.borrow().len() as u64;
            Ok(SaveAnswer { success: true, revision, saved_at: String::new(), merged: revision == 5 })
        }
    }

    /// A chain of messages of these sizes.
    fn chain(sizes: &[usize]) -> Vec<MessageInput> {
        let message = |(place, size): (usize, &usize)| {
            let parent = place.checked_sub(1).map(|parent| parent.to_string());
            serde_json::from_value(json!({"id": place.to_string(), "parent_id": parent, "role": "user",
                "content": "x".repeat(*size), "timestamp": "2026-02-09T21:30:10Z"}))
            .unwrap()
        };
        sizes.iter().enumerate().map(message).collect()
    }

    fn run(server: &Server, messages: Vec<MessageInput>, metadata: Option<Value>, base: Option<u64>) -> Outcome {
        let metadata = metadata.and_then(|metadata| metadata.as_object().cloned());
        let saving = save(messages, metadata, base, |messages, metadata, base| {
            std::future::ready(server.save(&messages, metadata, base))
        });
        futures::executor::block_on(saving)
    }

    #[test]
    fn what_fits_goes_in_one_request() {
        let server = Server::new(100);
        let outcome = run(&server, chain(&[10, 10]), Some(json!({"a": 1})), Some(7));
        assert_eq!((outcome.saved, outcome.error, outcome.too_large.len()), (vec!["0".into(), "1".into()], None, 0));
        assert_eq!(*server.requests.borrow(), [(vec!["0".to_owned(), "1".to_owned()], true, Some(7))]);
        assert_eq!(run(&server, vec![], None, None), Outcome::default());
    }

    #[test]
    fn what_is_too_large_together_goes_in_parts() {
        let server = Server::new(100);
        let outcome = run(&server, chain(&[40; 9]), Some(json!({"title": "t"})), Some(0));
        assert_eq!((outcome.saved.len(), &outcome.error, outcome.too_large.len()), (9, &None, 0));
        assert!(outcome.answer.is_some_and(|answer| answer.merged), "one of the parts was");
        let requests = server.requests.borrow();
        assert!(requests.last().is_some_and(|(ids, has_metadata, _)| ids.is_empty() && *has_metadata));
        assert!(requests.len() <= 9, "{requests:?}");
    }

    #[test]
    fn what_is_too_large_alone_holds_up_only_what_follows_it() {
        let server = Server::new(100);
        let mut messages = chain(&[10, 101, 10, 10]);
        messages.extend(chain(&[10]).into_iter().map(|message| MessageInput { id: Some("other".into()), ..message }));
        let outcome = run(&server, messages, Some(json!({"title": "t"})), None);
        assert_eq!((outcome.saved, outcome.error), (vec!["0".to_owned(), "other".to_owned()], None));
        assert_eq!(outcome.too_large, ["1", "2", "3"]);
        assert!(server.requests.borrow().iter().all(|(_, _, base)| base.is_none()));
    }

    #[test]
    fn a_message_and_metadata_that_only_together_are_too_large_are_both_saved() {
        let server = Server::new(100);
        let outcome = run(&server, chain(&[90]), Some(json!({"title": "x".repeat(50)})), None);
        assert_eq!((outcome.saved.len(), outcome.too_large.len(), outcome.error), (1, 0, None));
        let outcome = run(&server, chain(&[90]), Some(json!({"title": "x".repeat(200)})), None);
        assert_eq!((outcome.saved.len(), outcome.error.map(|error| error.code)), (1, Some(ErrorCode::BodyTooLarge)));
    }

    #[test]
    fn another_error_ends_it_with_what_was_saved() {
        let failing = RefCell::new(0);
        let saving = save(chain(&[10; 4]), None, None, |messages, _, _| {
            *failing.borrow_mut() += 1;
            std::future::ready(match (*failing.borrow(), messages.len()) {
                (1, _) => Err(AppError::new(ErrorCode::BodyTooLarge, "")),
                (2, 2) => Ok(SaveAnswer { success: true, revision: 1, saved_at: String::new(), merged: false }),
                _ => Err(AppError::new(ErrorCode::ServerUnreachable, "")),
            })
        });
        let outcome = futures::executor::block_on(saving);
        assert_eq!(outcome.saved, ["0", "1"]);
        assert_eq!(outcome.error.map(|error| error.code), Some(ErrorCode::ServerUnreachable));
    }
}
