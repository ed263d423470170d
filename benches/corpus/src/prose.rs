//! What people and models say: words, sentences, paragraphs, Markdown.

use crate::code;
use crate::language::{Language, TOPICS};
use crate::literal::{camel, push_day, push_literal, push_number, push_path, push_time, push_url, snake};
use crate::random::Random;

/// Lengths of most user messages in bytes.
const USER_BYTES: &[u64] = &[6, 16, 24, 32, 40, 49, 59, 70, 83, 98, 116, 138, 165, 200, 245, 310, 640];
/// Lengths of most replies in bytes.
const REPLY_BYTES: &[u64] = &[30, 130, 205, 270, 335, 405, 480, 560, 645, 740, 840, 955, 1090, 1250, 1450, 1790, 3250];
/// Lengths of the few very long messages in bytes.
const LONG_BYTES: &[u64] = &[5000, 6500, 8500, 11_000, 14_500, 20_000, 30_000];
/// Lengths of what is said aloud.
const SPOKEN_BYTES: &[u64] = &[6, 20, 35, 55, 80, 120, 200, 420];

/// Of how many words are about the topic, in 1024ths. They come back all through a conversation and are rare in others.
const OF_TOPIC: u64 = 90;
/// Of how many words of an English text stand in the list of topics, in 1024ths.
const OF_TOPICS: u64 = 220;
/// Of how many words of another language's technical text are English, in 1024ths.
const OF_ENGLISH: u64 = 35;
/// The invented words of which a word is drawn are 2 to this power; the higher the longer the tail.
const INVENTED: u64 = 22;

/// Somebody's way of talking in one conversation.
pub(crate) struct Prose {
    /// The source of all chance in the conversation.
    pub(crate) random: Random,
    language: &'static Language,
    topic: Vec<String>,
    technical: bool,
    spoken: bool,
}

/// What ends a sentence.
enum Mark {
    Stop,
    Question,
    Exclamation,
    /// Nothing: a line of a list, or somebody in a hurry.
    None,
}

impl Prose {
    pub(crate) fn new(mut random: Random, spoken: bool) -> Self {
        let language = Language::draw(&mut random);
        let topic = (0..random.between(8, 14))
            .map(|_| {
                let mut word = String::new();
                if random.chance(100) {
                    language.invent(random.rank(INVENTED), &mut word);
                } else if language.is_english() {
                    word.push_str(TOPICS.rare(&mut random));
                } else {
                    word.push_str(language.common.rare(&mut random));
                }
                word
            })
            .collect();
        let technical = random.chance(450);
        Self { random, language, topic, technical, spoken }
    }

    /// What a person types or says.
    pub(crate) fn user_message(&mut self) -> String {
        let mut out = String::new();
        if self.spoken {
            let bytes = self.random.quantile(SPOKEN_BYTES);
            self.sentences(&mut out, bytes);
            return out;
        }
        let bytes = self.random.quantile(USER_BYTES);
        if self.random.chance(350) {
            self.hasty(&mut out, bytes);
        } else {
            self.sentences(&mut out, bytes);
        }
        if self.random.chance(5) {
            let bytes = self.random.quantile(LONG_BYTES);
            self.paste(&mut out, bytes);
        } else if self.random.chance(if self.technical { 70 } else { 12 }) {
            let bytes = self.random.between(200, 2200);
            self.paste(&mut out, bytes);
        } else if self.random.chance(30) {
            out.push_str("\n\n");
            self.list(&mut out, 300);
        }
        out
    }

    /// What a model answers.
    pub(crate) fn reply(&mut self) -> String {
        let mut out = String::new();
        if self.spoken {
            let bytes = self.random.quantile(SPOKEN_BYTES) + 40;
            self.sentences(&mut out, bytes);
            return out;
        }
        let lengths = if self.random.chance(13) { LONG_BYTES } else { REPLY_BYTES };
        let bytes = self.random.quantile(lengths);
        let with_code = self.technical && self.random.chance(370);
        self.blocks(&mut out, bytes, with_code);
        out
    }

    /// A text of a few sentences and about `bytes` bytes: what stands before a tool call, or is left of a reply that broke off.
    pub(crate) fn short(&mut self, bytes: u64) -> String {
        let mut out = String::new();
        self.sentences(&mut out, bytes);
        out
    }

    /// Words with a capital first and without a mark at the end: a title, a heading, what is searched for.
    pub(crate) fn phrase(&mut self, out: &mut String, least: u64, most: u64) {
        let count = self.random.between(least, most);
        self.sentence(out, count, &Mark::None, false);
    }

    /// Paragraphs and other blocks, about `bytes` bytes of them.
    fn blocks(&mut self, out: &mut String, bytes: u64, with_code: bool) {
        let end = out.len() as u64 + bytes;
        let mut code_is_due = with_code;
        let mut first = true;
        loop {
            let left = end.saturating_sub(out.len() as u64);
            if left == 0 && !(first || code_is_due) {
                return;
            }
            if !std::mem::take(&mut first) {
                out.push_str("\n\n");
                if code_is_due {
                    let bytes = self.random.between(60, 200 + left / 2);
                    code::push_block(out, &mut self.random, bytes);
                    code_is_due = left > 1500 && self.random.chance(700);
                    continue;
                }
            }
            match self.random.below(100) {
                0..=13 if left > 250 => self.list(out, left),
                14..=29 if left > 900 => {
                    out.push_str("## ");
                    self.phrase(out, 1, 5);
                    out.push_str("\n\n");
                    self.paragraph(out, left);
                }
                30..=32 if left > 500 => self.table(out),
                33..=35 if left > 150 => {
                    out.push_str("> ");
                    self.any_sentence(out, true);
                }
                _ => self.paragraph(out, left),
            }
        }
    }

    fn paragraph(&mut self, out: &mut String, most: u64) {
        let bytes = self.random.between(60, 600).min(most.max(1));
        let end = out.len() as u64 + bytes;
        loop {
            self.any_sentence(out, true);
            if out.len() as u64 + 40 >= end {
                return;
            }
            out.push_str(self.language.space);
        }
    }

    /// Plain sentences without Markdown, about `bytes` bytes of them.
    fn sentences(&mut self, out: &mut String, bytes: u64) {
        let end = out.len() as u64 + bytes;
        loop {
            self.any_sentence(out, false);
            if out.len() as u64 + 30 >= end {
                return;
            }
            out.push_str(self.language.space);
        }
    }

    /// Words as somebody types them who does not care for capitals and marks.
    fn hasty(&mut self, out: &mut String, bytes: u64) {
        let end = out.len() as u64 + bytes;
        loop {
            self.word(out);
            if out.len() as u64 >= end {
                return;
            }
            out.push_str(self.language.space);
        }
    }

    fn list(&mut self, out: &mut String, most: u64) {
        let end = out.len() as u64 + most;
        let (numbered, named) = (self.random.chance(400), self.random.chance(350));
        for item in 1..=self.random.between(2, 7) {
            if item > 1 {
                out.push('\n');
            }
            if numbered {
                push_number(out, item);
                out.push_str(". ");
            } else {
                out.push_str("- ");
            }
            if named {
                out.push_str("**");
                self.phrase(out, 1, 3);
                out.push_str("**: ");
            }
            self.any_sentence(out, true);
            if out.len() as u64 >= end {
                return;
            }
        }
    }

    fn table(&mut self, out: &mut String) {
        let columns = self.random.between(2, 4);
        for row in 0..self.random.between(4, 8) {
            if row > 0 {
                out.push('\n');
            }
            out.push('|');
            for _ in 0..columns {
                match row {
                    1 => out.push_str("---|"),
                    _ => {
                        out.push(' ');
                        if row > 1 && self.random.chance(350) {
                            push_literal(out, &mut self.random);
                        } else {
                            self.phrase(out, 1, 2);
                        }
                        out.push_str(" |");
                    }
                }
            }
        }
    }

    /// What is copied into a message: code, or lines of a log.
    fn paste(&mut self, out: &mut String, bytes: u64) {
        out.push_str("\n\n");
        if self.random.chance(600) {
            code::push_block(out, &mut self.random, bytes);
        } else {
            self.log(out, bytes);
        }
    }

    /// Lines of a log.
    pub(crate) fn log(&mut self, out: &mut String, bytes: u64) {
        let end = out.len() as u64 + bytes;
        let mut time = self.random.between(1_760_000_000_000, 1_795_000_000_000);
        loop {
            time += self.random.rank(16);
            push_time(out, time);
            out.push_str(self.random.pick_text(&[" INFO ", " INFO ", " DEBUG ", " WARN ", " ERROR "]));
            out.push_str(TOPICS.draw(self.random.next()));
            out.push_str("::");
            out.push_str(&snake(&mut self.random));
            out.push_str(": ");
            for _ in 0..self.random.between(1, 5) {
                out.push_str(TOPICS.draw(self.random.next()));
                out.push(' ');
            }
            out.push_str(TOPICS.draw(self.random.next()));
            out.push('=');
            push_number(out, self.random.rank(16));
            if out.len() as u64 >= end {
                return;
            }
            out.push('\n');
        }
    }

    /// What a search on the web finds.
    pub(crate) fn findings(&mut self, out: &mut String) {
        for place in 1..=self.random.between(2, 6) {
            if place > 1 {
                out.push('\n');
            }
            push_number(out, place);
            out.push_str(". ");
            self.phrase(out, 3, 8);
            out.push_str("\n   ");
            push_url(out, &mut self.random);
            out.push_str("\n   ");
            push_day(out, self.random.between(1_600_000_000_000, 1_795_000_000_000));
            out.push_str(": ");
            self.any_sentence(out, false);
        }
    }

    fn any_sentence(&mut self, out: &mut String, markdown: bool) {
        let count = 3 + self.random.below(7) + self.random.below(9);
        let mark = match self.random.below(20) {
            0..=2 => Mark::Question,
            3 => Mark::Exclamation,
            _ => Mark::Stop,
        };
        self.sentence(out, count, &mark, markdown);
    }

    fn sentence(&mut self, out: &mut String, count: u64, mark: &Mark, markdown: bool) {
        let language = self.language;
        out.push_str(match mark {
            Mark::Question => language.openings.0,
            Mark::Exclamation => language.openings.1,
            Mark::Stop | Mark::None => "",
        });
        // One random number serves the whole sentence: its parts say where commas stand and which word is set off.
        let mut bits = self.random.next();
        let marked = if markdown && bits & 15 == 0 { (bits >> 4) % count } else { count };
        let has_commas = !matches!(mark, Mark::None);
        for position in 0..count {
            if position > 0 {
                bits = bits.rotate_right(4);
                let comma = has_commas && bits & 15 == 1 && position + 1 < count;
                out.push_str(if comma { language.comma } else { language.space });
            }
            if position == marked {
                self.marked_word(out);
                continue;
            }
            let start = out.len();
            if self.word(out) && position == 0 {
                capitalize(out, start, language.capital_i);
            }
        }
        out.push_str(match mark {
            Mark::Stop => language.stop,
            Mark::Question => language.question,
            Mark::Exclamation => language.exclamation,
            Mark::None => "",
        });
    }

    /// A word that Markdown sets off.
    fn marked_word(&mut self, out: &mut String) {
        match self.random.below(10) {
            0..=4 => {
                out.push_str("**");
                self.word(out);
                out.push_str("**");
            }
            5 => {
                out.push('*');
                self.word(out);
                out.push('*');
            }
            6 => {
                out.push('[');
                self.word(out);
                out.push_str("](");
                push_url(out, &mut self.random);
                out.push(')');
            }
            kind => {
                out.push('`');
                match kind {
                    7 => push_path(out, &mut self.random),
                    8 => out.push_str(&snake(&mut self.random)),
                    _ => {
                        let capital = self.random.chance(500);
                        out.push_str(&camel(&mut self.random, capital));
                        if capital {
                            out.push_str("::");
                            out.push_str(&snake(&mut self.random));
                        }
                        out.push_str("()");
                    }
                }
                out.push('`');
            }
        }
    }

    /// Adds a word; says whether it is one that begins with a capital at the beginning of a sentence.
    fn word(&mut self, out: &mut String) -> bool {
        let bits = self.random.next();
        let place = bits >> 10;
        let topics = if self.language.is_english() {
            OF_TOPICS
        } else if self.technical {
            OF_ENGLISH
        } else {
            0
        };
        match bits & 1023 {
            // These two are 1.2 and 1 %; the invented words of topics are as many again as the first.
            0..12 => self.language.invent(self.random.rank(INVENTED), out),
            12..22 => {
                // Nobody reads a path aloud.
                let spoken = self.spoken;
                self.set_apart(out, |random, out| match spoken {
                    true => push_number(out, random.rank(12)),
                    false => push_literal(out, random),
                });
                return false;
            }
            kind if kind < 22 + OF_TOPIC => out.push_str(&self.topic[place as usize % self.topic.len()]),
            kind if kind < 22 + OF_TOPIC + topics => {
                if self.language.is_english() {
                    out.push_str(TOPICS.draw(place));
                } else {
                    self.set_apart(out, |_, out| out.push_str(TOPICS.draw(place)));
                }
            }
            _ => out.push_str(self.language.common.draw(place)),
        }
        true
    }

    /// Adds what is no word of the language, with spaces around it where words have none between them.
    fn set_apart(&mut self, out: &mut String, add: impl FnOnce(&mut Random, &mut String)) {
        let unspaced = self.language.space.is_empty();
        if unspaced && !out.is_empty() && !out.ends_with([' ', '\n']) {
            out.push(' ');
        }
        add(&mut self.random, out);
        if unspaced {
            out.push(' ');
        }
    }
}

/// Makes the letter at `start` a capital.
fn capitalize(out: &mut String, start: usize, capital_i: char) {
    let Some(small) = out[start..].chars().next() else { return };
    let capital = match small {
        'i' => capital_i,
        _ => small.to_uppercase().next().unwrap_or(small),
    };
    if capital != small {
        out.replace_range(start..start + small.len_utf8(), capital.encode_utf8(&mut [0; 4]));
    }
}
