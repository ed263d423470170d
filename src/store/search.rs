//! Whether and where a search finds a session. Pure.

use crate::model::query::Query;
use crate::model::session::{Match, Session, Summary};

/// How many characters a snippet has, about.
const SNIPPET_CHARACTERS: usize = 120;

/// Where `query` is found in a session: `None` if one of its words stands nowhere, an empty list if no message holds any.
///
/// Every word must occur in the id, the user name, the title, the preview or the content of any message of any branch; letter
/// case does not count.
pub fn find(session: &Session, summary: &Summary, query: &Query) -> Option<Vec<Match>> {
    let mut missing: Vec<&String> = query.words.iter().collect();
    let title = summary.title.as_deref().unwrap_or_default();
    for text in [summary.session_id.as_str(), &summary.user_name, title, &summary.preview] {
        let text = text.to_lowercase();
        missing.retain(|word| !text.contains(word.as_str()));
    }
    let mut first = None;
    for message in &session.messages {
        let content = message.content.to_lowercase();
        if first.is_none() && query.words.iter().any(|word| content.contains(word.as_str())) {
            first = Some(message);
        }
        missing.retain(|word| !content.contains(word.as_str()));
        if missing.is_empty() && first.is_some() {
            break;
        }
    }
    if !missing.is_empty() {
        return None;
    }
    Some(first.map(|message| excerpt(&message.id, &message.content, query)).into_iter().collect())
}

/// The part of a content in which the first word stands, and the places of all words in it.
fn excerpt(message_id: &str, content: &str, query: &Query) -> Match {
    let characters: Vec<char> = content.chars().collect();
    let words: Vec<Vec<char>> = query.words.iter().map(|word| word.chars().collect()).collect();
    let first = places(&characters, &words).next().map_or(0, |(start, _)| start);
    let start = first.saturating_sub(SNIPPET_CHARACTERS / 3);
    let end = (start + SNIPPET_CHARACTERS).min(characters.len());
    let start = end.saturating_sub(SNIPPET_CHARACTERS).min(start);
    let snippet = &characters[start..end];
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (from, to) in places(snippet, &words) {
        match ranges.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => ranges.push((from, to)),
        }
    }
    Match { message_id: message_id.to_owned(), snippet: snippet.iter().collect(), ranges }
}

/// Where words, given in lower case, stand in a text, by their starts; the longest where several start at one place.
fn places<'a>(text: &'a [char], words: &'a [Vec<char>]) -> impl Iterator<Item = (usize, usize)> + 'a {
    (0..text.len()).filter_map(move |start| {
        let end = words.iter().filter_map(|word| end_of(&text[start..], word)).max()?;
        Some((start, start + end))
    })
}

/// How many characters at the beginning of a text make up a word, if it begins with it.
fn end_of(text: &[char], word: &[char]) -> Option<usize> {
    let mut rest = word;
    for (position, character) in text.iter().enumerate() {
        if rest.is_empty() {
            return (position > 0).then_some(position);
        }
        // In lower case a character may become several.
        for lower in character.to_lowercase() {
            match rest.split_first() {
                Some((next, after)) if *next == lower => rest = after,
                Some(_) => return None,
                None => break,
            }
        }
    }
    (rest.is_empty() && !word.is_empty()).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use serde_json::json;

    fn session(contents: &[&str]) -> Session {
        let messages = contents
            .iter()
            .enumerate()
            .map(|(position, content)| {
                let parent = position.checked_sub(1).map(|parent| format!("m{parent}"));
                serde_json::from_value(json!({"id":format!("m{position}"),"parent_id":parent,"role":"user",
                    "content":content,"timestamp":""}))
                .unwrap()
            })
            .collect();
        Session {
            session_id: "abc".parse().unwrap(),
            user_name: "Zoë".into(),
            started_at: String::new(),
            last_updated: String::new(),
            metadata: Object::new(),
            messages,
            revision: 0,
            extra: Object::new(),
        }
    }

    fn search(contents: &[&str], text: &str) -> Option<Vec<Match>> {
        let session = session(contents);
        find(&session, &session.summary(), &Query::parse(text))
    }

    #[test]
    fn every_word_must_stand_somewhere() {
        assert!(search(&["Rain in Spain", "the plain"], "PLAIN rain").is_some());
        assert!(search(&["Rain in Spain", "the plain"], "plain snow").is_none());
        assert_eq!(search(&["x"], "zoë ABC"), Some(Vec::new()));
    }

    #[test]
    fn snippets_have_ranges_in_characters() {
        let long = format!("{} İstanbul weather, and weather again {}", "é".repeat(500), "ü".repeat(500));
        let found = search(&["nothing", &long], "weather").unwrap().remove(0);
        assert_eq!(found.message_id, "m1");
        assert_eq!(found.snippet.chars().count(), SNIPPET_CHARACTERS);
        assert_eq!(found.ranges.len(), 2);
        for (start, end) in found.ranges {
            assert_eq!(found.snippet.chars().skip(start).take(end - start).collect::<String>(), "weather");
        }
        let short = search(&["sunny"], "sun unn").unwrap().remove(0);
        assert_eq!((short.snippet.as_str(), short.ranges), ("sunny", vec![(0, 4)]));
    }
}
