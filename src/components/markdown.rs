//! Markdown → HTML that is safe to put into a page: raw HTML is text, links lead only to the web or a mail program, pictures are
//! links. One piece of HTML per top-level block, so that while a reply streams in only what changed touches the page.

use pulldown_cmark::{Alignment, CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// The longest language label of a code block, in characters.
const MAX_LANGUAGE_CHARACTERS: usize = 24;

/// Renders a text, one piece of HTML per top-level block.
pub fn blocks(text: &str) -> Vec<String> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut writer = Writer::default();
    for event in Parser::new_ext(text, options) {
        writer.take(event);
    }
    writer.finish()
}

/// Turns the parser's events into those that are allowed and renders them block by block.
#[derive(Default)]
struct Writer<'a> {
    done: Vec<String>,
    events: Vec<Event<'a>>,
    depth: usize,
    /// For each open link whether it was let through.
    links: Vec<bool>,
    alignments: Vec<Alignment>,
    cell: usize,
    in_head: bool,
    code: Option<String>,
}

impl<'a> Writer<'a> {
    fn take(&mut self, event: Event<'a>) {
        let is_start = matches!(event, Event::Start(_));
        let is_end = matches!(event, Event::End(_));
        if is_start {
            self.depth += 1;
        }
        self.translate(event);
        if is_end {
            self.depth = self.depth.saturating_sub(1);
        }
        if self.depth == 0 && !is_start {
            self.close_block();
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.close_block();
        self.done
    }

    fn close_block(&mut self) {
        if self.events.is_empty() {
            return;
        }
        let mut block = String::new();
        html::push_html(&mut block, self.events.drain(..));
        if !block.trim().is_empty() {
            self.done.push(block);
        }
    }

    /// Adds HTML of our own making.
    fn push_own(&mut self, html: String) {
        self.events.push(Event::InlineHtml(CowStr::from(html)));
    }

    fn translate(&mut self, event: Event<'a>) {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => match &mut self.code {
                Some(code) => code.push_str(&text),
                None => self.events.push(Event::Text(text)),
            },
            Event::Start(Tag::HtmlBlock) => self.events.push(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => self.events.push(Event::End(TagEnd::Paragraph)),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let allowed = is_allowed_link(&dest_url);
                self.links.push(allowed);
                if allowed {
                    self.push_own(format!(
                        "<a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer nofollow\">",
                        escape(&dest_url)
                    ));
                }
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                if self.links.pop() == Some(true) {
                    self.push_own("</a>".to_owned());
                }
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => info.split([' ', ',', '{']).next().unwrap_or_default(),
                    CodeBlockKind::Indented => "",
                };
                let language: String = language.chars().take(MAX_LANGUAGE_CHARACTERS).collect();
                let label = if language.is_empty() { "text".to_owned() } else { escape(&language) };
                self.push_own(format!(
                    "<div class=\"code\"><div class=\"code__head\"><span class=\"code__language\">{label}</span>\
                     <button type=\"button\" class=\"code__copy\" data-copy>Copy</button></div>\
                     <pre tabindex=\"0\"><code>"
                ));
                self.code = Some(String::new());
            }
            Event::End(TagEnd::CodeBlock) => {
                let code = self.code.take().unwrap_or_default();
                self.push_own(format!("{}</code></pre></div>", escape(&code)));
            }
            Event::Text(text) if self.code.is_some() => {
                if let Some(code) = &mut self.code {
                    code.push_str(&text);
                }
            }
            // A page has its own first heading; those of a reply stand below it.
            Event::Start(Tag::Heading { level, .. }) => self.events.push(Event::Start(Tag::Heading {
                level: lowered(level),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            })),
            Event::End(TagEnd::Heading(level)) => self.events.push(Event::End(TagEnd::Heading(lowered(level)))),
            Event::Start(Tag::Table(alignments)) => {
                self.alignments = alignments;
                self.push_own("<div class=\"table\" tabindex=\"0\"><table>".to_owned());
            }
            Event::End(TagEnd::Table) => self.push_own("</tbody></table></div>".to_owned()),
            Event::Start(Tag::TableHead) => {
                self.in_head = true;
                self.cell = 0;
                self.push_own("<thead><tr>".to_owned());
            }
            Event::End(TagEnd::TableHead) => {
                self.in_head = false;
                self.push_own("</tr></thead><tbody>".to_owned());
            }
            Event::Start(Tag::TableRow) => {
                self.cell = 0;
                self.push_own("<tr>".to_owned());
            }
            Event::End(TagEnd::TableRow) => self.push_own("</tr>".to_owned()),
            Event::Start(Tag::TableCell) => {
                // Classes, because the page's policy forbids the style attributes that the library would write.
                let class = match self.alignments.get(self.cell) {
                    Some(Alignment::Center) => " class=\"center\"",
                    Some(Alignment::Right) => " class=\"right\"",
                    _ => "",
                };
                let name = if self.in_head { "th" } else { "td" };
                self.push_own(format!("<{name}{class}>"));
                self.cell += 1;
            }
            Event::End(TagEnd::TableCell) => {
                self.push_own(if self.in_head { "</th>" } else { "</td>" }.to_owned());
            }
            Event::TaskListMarker(done) => {
                self.push_own(
                    if done { "<span class=\"task\">☑</span> " } else { "<span class=\"task\">☐</span> " }.to_owned(),
                );
            }
            other => self.events.push(other),
        }
    }
}

fn lowered(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H2,
        HeadingLevel::H2 => HeadingLevel::H3,
        HeadingLevel::H3 => HeadingLevel::H4,
        HeadingLevel::H4 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Whether a link may be followed. The text must begin with an allowed scheme exactly, so that no control character, entity or
/// case hides another one: what is not recognised is no link.
fn is_allowed_link(url: &str) -> bool {
    let begins = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    begins("https://") || begins("http://") || begins("mailto:")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rendered(text: &str) -> String {
        blocks(text).concat()
    }

    /// All tags of an HTML text, each from `<` to `>`.
    fn tags(html: &str) -> Vec<&str> {
        html.match_indices('<')
            .map(|(start, _)| &html[start..start + html[start..].find('>').unwrap_or(0) + 1])
            .collect()
    }

    const ALLOWED: [&str; 27] = [
        "p",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "blockquote",
        "em",
        "strong",
        "del",
        "code",
        "pre",
        "div",
        "span",
        "button",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "hr",
        "br",
    ];

    fn assert_safe(html: &str) {
        for tag in tags(html) {
            let name: String =
                tag.trim_start_matches(['<', '/']).chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(ALLOWED.contains(&name.as_str()), "{tag} in {html}");
            assert!(!tag.contains(" on") && !tag.contains("style="), "{tag} in {html}");
            if let Some(link) = tag.strip_prefix("<a ") {
                let link = link.to_ascii_lowercase();
                assert!(
                    ["href=\"http://", "href=\"https://", "href=\"mailto:"].iter().any(|start| link.starts_with(start)),
                    "{tag}"
                );
                assert!(link.contains("rel=\"noopener noreferrer nofollow\""), "{tag}");
            }
        }
    }

    #[test]
    fn renders_what_people_write() {
        assert_eq!(blocks("a\n\nb"), ["<p>a</p>\n", "<p>b</p>\n"]);
        assert_eq!(rendered("# T"), "<h2>T</h2>\n");
        assert!(rendered("- [x] a\n- [ ] b").contains("☑"));
        assert!(rendered("~~a~~").contains("<del>a</del>"));
        let table = rendered("|a|b|\n|-|-:|\n|1|2|");
        assert!(table.contains("<td class=\"right\">2</td>") && table.ends_with("</table></div>"), "{table}");
        let code = rendered("```rust\nlet a = \"<b>\";\n```");
        assert!(code.contains("<span class=\"code__language\">rust</span>"), "{code}");
        assert!(code.contains("let a = &quot;&lt;b&gt;&quot;;\n</code></pre>"), "{code}");
        let link = rendered("[x](https://example.org/?a=1&b=\")");
        assert!(link.contains("<a href=\"https://example.org/?a=1&amp;b=&quot;\" target=\"_blank\""), "{link}");
        assert_eq!(blocks(""), [""; 0]);
    }

    #[test]
    fn a_block_that_is_complete_does_not_change_any_more() {
        let before = blocks("First *one*.\n\n```\ncode\n```\n\nThe la");
        let after = blocks("First *one*.\n\n```\ncode\n```\n\nThe last **one**.");
        assert_eq!(before[..2], after[..2]);
        assert_eq!((before.len(), after.len()), (3, 3));
    }

    #[test]
    fn raw_html_is_text() {
        for text in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<svg onload=alert(1)>",
            "<div style=\"x\">a</div>\n\n<iframe src='javascript:alert(1)'></iframe>",
            "```\"><script>alert(1)</script>\nx\n```",
            "| <b onclick=x> |\n|-|\n| <u> |",
        ] {
            let html = rendered(text);
            assert_safe(&html);
            assert!(html.contains("&lt;"), "{html}");
        }
    }

    #[test]
    fn links_lead_to_the_web_or_nowhere() {
        for url in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java&#115;cript:alert(1)",
            "&#106;avascript:alert(1)",
            "java&Tab;script:alert(1)",
            "&#1;javascript:alert(1)",
            "\u{1}javascript:alert(1)",
            "data:text/html,<script>alert(1)</script>",
            "vbscript:msgbox(1)",
            "//example.org",
            "/api/sessions/delete",
            "file:///etc/passwd",
            "blob:https://example.org/1",
        ] {
            for text in [format!("[x]({url})"), format!("[x](<{url}>)"), format!("![x]({url})"), format!("<{url}>")] {
                let html = rendered(&text);
                assert!(!html.contains("<a "), "{text} gave {html}");
                assert_safe(&html);
            }
        }
        assert!(rendered("![cat](https://example.org/c.png)").contains(">cat</a>"));
        assert!(rendered("<mailto:a@example.org>").contains("href=\"mailto:a@example.org\""));
    }

    proptest! {
        #[test]
        fn only_allowed_tags_come_out(
            pieces in prop::collection::vec(prop_oneof![
                Just("<script>".to_owned()), Just("<img src=x onerror=a>".to_owned()), Just("[a](".to_owned()),
                Just("javascript:".to_owned()), Just("https://e.org".to_owned()), Just(")".to_owned()), Just("\n".to_owned()),
                Just("```".to_owned()), Just("|".to_owned()), Just("|-|\n".to_owned()), Just("![".to_owned()), Just("](".to_owned()),
                Just("> ".to_owned()), Just("- [x] ".to_owned()), Just("# ".to_owned()), Just("\"".to_owned()), Just("&lt;".to_owned()),
                "[ -~]{0,6}", "\\PC{0,3}",
            ], 0..24)
        ) {
            assert_safe(&rendered(&pieces.concat()));
        }
    }
}
