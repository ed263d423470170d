//! Code: templates of several languages with names, numbers and operators put in.

use crate::language::TOPICS;
use crate::literal::{camel, push_hex, push_number, push_path, snake};
use crate::random::Random;

/// What begins a place in a template; the letter after it says what is put there, see [`Names::fill`].
const PLACE: char = '¤';

/// The languages of code blocks, with the word after the fence.
const LANGUAGES: [(&str, &[&str]); 7] = [
    ("python", PYTHON),
    ("rust", RUST),
    ("javascript", JAVASCRIPT),
    ("sql", SQL),
    ("bash", SHELL),
    ("json", JSON),
    ("cpp", CPP),
];

const PYTHON: &[&str] = &[
    r#"def ¤a(¤b, ¤c=¤n):
    """Return every ¤w of ¤w ¤w."""
    ¤d = []
    for item in ¤b:
        if item.¤c ¤o ¤n and item is not None:
            ¤d.append(item.¤a(¤n))
    return ¤d
"#,
    r#"class ¤P:
    def __init__(self, ¤a, ¤b=None):
        self.¤a = ¤a
        self._¤b = ¤b or {}

    def ¤c(self) -> int:
        self._¤d ¤u ¤n
        return len(self._¤b) + self._¤d
"#,
    r#"async def ¤a(session, ¤b):
    async with session.get(f"https://example.org/¤w/{¤b}") as response:
        if response.status != 200:
            raise ¤PError(f"¤s: {response.status}")
        return await response.json()
"#,
    r#"import numpy as np

¤a = np.array([¤n, ¤n, ¤n])
¤b = ¤a.reshape(-1, 1) * ¤n
print(¤b.mean(), ¤b.std() ¤o ¤n)
"#,
    r#"with open("¤f") as handle:
    ¤a = {line.split(",")[¤k]: line.strip() for line in handle if line != "\n"}

assert ¤a["¤b"] ¤o ¤n, "¤s"
"#,
    r#"@pytest.mark.parametrize("¤b", [¤n, ¤n, ¤n])
def test_¤a(¤b):
    assert ¤a(¤b) == ¤n
"#,
    r#"try:
    ¤a = ¤b(¤c, timeout=¤n)
except (KeyError, ValueError) as error:
    logger.warning("¤s: %s", error)
    ¤a = None
"#,
];

const RUST: &[&str] = &[
    r#"pub fn ¤a(¤b: &[u64], ¤c: usize) -> Option<u64> {
    ¤b.iter().skip(¤c).filter(|&&x| x ¤o ¤n).copied().max()
}
"#,
    r#"#[derive(Clone, Debug, Default)]
pub struct ¤P {
    ¤a: Vec<String>,
    ¤b: HashMap<String, ¤Q>,
    ¤c: u64,
}

impl ¤P {
    pub fn ¤d(&mut self, key: &str) -> Result<(), ¤Q> {
        self.¤c ¤u ¤n;
        self.¤a.push(key.to_owned());
        Ok(())
    }
}
"#,
    r#"match self.¤a.get(&¤b) {
    Some(¤c) if ¤c.len() ¤o ¤n => ¤P::¤d(¤c)?,
    Some(_) => return Err(¤Q::¤P("¤s".into())),
    None => continue,
}
"#,
    r#"let ¤a: Arc<Mutex<Vec<u8>>> = Arc::new(Mutex::new(Vec::with_capacity(¤N)));
for ¤b in 0..¤n {
    let ¤a = Arc::clone(&¤a);
    std::thread::spawn(move || ¤a.lock().unwrap().extend_from_slice(&[¤b as u8; ¤n]));
}
"#,
    r#"#[test]
fn ¤a_is_¤w() {
    let ¤b = ¤P::new(¤n);
    assert_eq!(¤b.¤c("¤s"), Ok(¤N));
    assert!(¤b.¤d() != 0 && ¤b.¤c("") ¤o Ok(¤n));
}
"#,
    r#"impl From<¤P> for ¤Q {
    fn from(¤a: ¤P) -> Self {
        Self { ¤b: ¤a.¤b.unwrap_or(¤N), ¤c: ¤a.¤c << ¤k }
    }
}
"#,
];

const JAVASCRIPT: &[&str] = &[
    r#"export async function ¤A(¤B, { ¤C = ¤n } = {}) {
  const response = await fetch(`/api/¤w/${¤B}?limit=${¤C}`);
  if (!response.ok || response.status === ¤n) throw new Error("¤s");
  return (await response.json()).¤D ?? [];
}
"#,
    r#"const ¤A = ¤B.filter((item) => item.¤C ¤o ¤n).map(({ ¤C, ¤D }) => ({ [¤C]: ¤D + 1 }));
console.log(¤A.length !== 0 && ¤A[0]);
"#,
    r#"class ¤P extends ¤Q {
  #¤A = new Map();

  ¤B(¤C) {
    this.#¤A.set(¤C.id, { ...¤C, ¤D: Date.now() });
    return this.#¤A.size >= ¤n ? null : this;
  }
}
"#,
    r#"document.querySelector(".¤w-¤w")?.addEventListener("click", (event) => {
  event.preventDefault();
  ¤A.¤B ¤u ¤n;
  setTimeout(() => ¤C(¤A), ¤N);
});
"#,
    r#"test("¤s", () => {
  expect(¤A({ ¤B: ¤n, ¤C: "¤w" })).toEqual([¤n, ¤n]);
});
"#,
    r#"const [¤A, set¤P] = useState(¤n);
useEffect(() => {
  if (¤A ¤o ¤n) set¤P((previous) => previous + ¤k);
}, [¤A, ¤B]);
"#,
];

const SQL: &[&str] = &[
    r#"SELECT ¤a, COUNT(*) AS ¤b, AVG(¤c) FROM ¤d
WHERE ¤c ¤q ¤N AND ¤a != '¤w'
GROUP BY ¤a HAVING COUNT(*) > ¤n ORDER BY ¤b DESC LIMIT ¤n;
"#,
    r#"CREATE TABLE ¤a (
    id BIGINT PRIMARY KEY,
    ¤b TEXT NOT NULL DEFAULT '¤w',
    ¤c INTEGER CHECK (¤c >= ¤n),
    created_at TIMESTAMPTZ DEFAULT now()
);
CREATE INDEX ¤a_¤b_idx ON ¤a (¤b, ¤c);
"#,
    r#"UPDATE ¤a SET ¤b = ¤b + ¤n, ¤c = 'it''s ¤w'
FROM ¤d WHERE ¤d.¤a_id = ¤a.id AND ¤d.¤b IS NOT NULL;
"#,
    r#"WITH ¤a AS (
    SELECT ¤b, ROW_NUMBER() OVER (PARTITION BY ¤c ORDER BY ¤d DESC) AS n FROM ¤w
)
SELECT * FROM ¤a LEFT JOIN ¤w USING (¤b) WHERE n <= ¤n;
"#,
    r#"EXPLAIN ANALYZE DELETE FROM ¤a WHERE ¤b LIKE '%¤w\_%' AND ¤c BETWEEN ¤n AND ¤N;
"#,
];

const SHELL: &[&str] = &[
    r#"#!/usr/bin/env bash
set -euo pipefail
for file in ¤a/*.log; do
    grep -c "¤s" "$file" >> "${¤S:-/tmp/¤b.txt}" || true
done
"#,
    r#"export ¤S=¤N
docker run --rm -p ¤N:80 -v "$PWD/¤a:/data" registry.example.com/¤w/¤b:¤k.¤n
curl -sf "http://localhost:¤N/¤w" | jq '.¤c[] | select(.¤d >= ¤n)'
"#,
    r#"git log --oneline --since=2026-0¤m-1¤k -- ¤f | head -n ¤n
git rebase -i ¤h && git push --force-with-lease origin ¤w/¤a
"#,
    r#"if [[ -f "¤f" && "$1" != "--¤w" ]]; then
    awk -F, '{ sum += $¤m } END { print sum / NR }' "¤f"
else
    find . -name '*.¤w' -mtime +¤n -exec rm {} +
fi
"#,
    r#"cargo build --release -p ¤a && ./target/release/¤a --¤w ¤n 2>&1 | tee ¤b.log
"#,
];

const JSON: &[&str] = &[
    r#"{
  "¤a": ¤n,
  "¤b": ["¤w", "¤w", "¤s"],
  "¤c": { "enabled": true, "¤d": ¤N, "hash": "¤h" }
}
"#,
    r#"[
  { "id": "¤h", "¤A": "¤s", "¤B": null },
  { "id": "¤h", "¤A": "¤w \"¤w\"", "¤B": -¤n.¤k }
]
"#,
    r#"{
  "name": "@¤w/¤w",
  "version": "¤k.¤n.¤k",
  "scripts": { "build": "¤w --¤w && ¤w", "test": "¤w ¤f" },
  "dependencies": { "¤w": "^¤k.¤k.¤n" }
}
"#,
];

const CPP: &[&str] = &[
    r#"template <typename T>
std::vector<T> ¤a(const std::vector<T>& ¤b, std::size_t ¤c) {
    std::vector<T> ¤d;
    for (auto it = ¤b.begin(); it != ¤b.end(); ++it) {
        if (*it ¤o T{¤n}) ¤d.push_back(*it);
    }
    return ¤d;
}
"#,
    r#"class ¤P : public ¤Q {
public:
    explicit ¤P(int ¤A) : ¤A_(¤A) {}
    int ¤B() const override { return ¤A_ << ¤k; }

private:
    int ¤A_ = ¤n;
    std::unique_ptr<¤Q> ¤C_;
};
"#,
    r#"auto ¤a = std::find_if(¤b.begin(), ¤b.end(), [&](const ¤P& x) { return x.¤c ¤o ¤n ¤l x.¤d(); });
if (¤a == ¤b.end()) throw std::runtime_error("¤s");
¤a->¤c ¤u ¤n;
"#,
    r#"#include <¤w.h>
#define ¤S ¤N

static inline uint32_t ¤a(uint32_t ¤b) {
    ¤b ^= ¤b >> ¤k;
    return ¤b * 0x¤hu;
}
"#,
    r#"std::lock_guard<std::mutex> guard(¤A->¤B_);
while (!¤A->¤C.empty() && ¤A->¤C.front()->¤d != nullptr) {
    ¤A->¤C.pop();
    ++¤D;
}
"#,
];

/// The names of a block of code: the same letter means the same name all through it.
struct Names {
    snake: [String; 4],
    camel: [String; 4],
    pascal: [String; 2],
}

impl Names {
    fn new(random: &mut Random) -> Self {
        Self {
            snake: std::array::from_fn(|_| snake(random)),
            camel: std::array::from_fn(|_| camel(random, false)),
            pascal: std::array::from_fn(|_| camel(random, true)),
        }
    }

    /// Adds a template with its places filled.
    fn fill(&self, template: &str, random: &mut Random, out: &mut String) {
        let mut pieces = template.split(PLACE);
        out.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let kind = piece.as_bytes().first().copied().unwrap_or_default();
            match kind {
                b'a'..=b'd' => out.push_str(&self.snake[usize::from(kind - b'a')]),
                b'A'..=b'D' => out.push_str(&self.camel[usize::from(kind - b'A')]),
                b'P' | b'Q' => out.push_str(&self.pascal[usize::from(kind - b'P')]),
                b'S' => out.push_str(&self.snake[3].to_ascii_uppercase()),
                b'k' => push_number(out, random.below(10)),
                b'm' => push_number(out, random.between(1, 9)),
                b'n' => push_number(out, random.rank(9)),
                b'N' => push_number(out, random.between(1000, 60_000)),
                b'o' => out.push_str(random.pick_text(&["==", "!=", "<", ">", "<=", ">="])),
                b'q' => out.push_str(random.pick_text(&["=", "<>", "<", ">", "<=", ">="])),
                b'u' => out.push_str(random.pick_text(&["+=", "-=", "*=", "+="])),
                b'l' => out.push_str(random.pick_text(&["&&", "||"])),
                b'h' => push_hex(out, random.next(), 8),
                b'f' => push_path(out, random),
                b'w' => out.push_str(TOPICS.draw(random.next())),
                _ => {
                    out.push_str(TOPICS.draw(random.next()));
                    out.push(' ');
                    out.push_str(TOPICS.draw(random.next()));
                }
            }
            out.push_str(piece.get(1..).unwrap_or_default());
        }
    }
}

/// Adds code until there are `bytes` of it, at least one template's.
fn push_snippets(out: &mut String, random: &mut Random, snippets: &[&str], bytes: u64) {
    let end = out.len() as u64 + bytes;
    loop {
        let names = Names::new(random);
        names.fill(random.pick_text(snippets), random, out);
        if out.len() as u64 >= end {
            return;
        }
        out.push('\n');
    }
}

/// Adds a fenced block with about this much code.
pub(crate) fn push_block(out: &mut String, random: &mut Random, bytes: u64) {
    let (fence, snippets) = *random.pick(&LANGUAGES);
    out.push_str("```");
    out.push_str(fence);
    out.push('\n');
    push_snippets(out, random, snippets, bytes);
    out.push_str("```");
}

/// Adds code without a fence, as a tool reads it out of a file.
pub(crate) fn push_file(out: &mut String, random: &mut Random, bytes: u64) {
    let (_, snippets) = *random.pick(&LANGUAGES);
    push_snippets(out, random, snippets, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_left_unfilled() {
        let mut random = Random::new(1);
        let known = "abcdABCDPQSkmnNoqulhfws";
        for template in LANGUAGES.iter().flat_map(|(_, snippets)| *snippets) {
            for piece in template.split(PLACE).skip(1) {
                assert!(piece.starts_with(|kind| known.contains(kind)), "{piece}");
            }
            let mut out = String::new();
            Names::new(&mut random).fill(template, &mut random, &mut out);
            assert!(!out.contains(PLACE) && out.ends_with('\n'));
        }
    }

    #[test]
    fn blocks_are_fenced_and_about_as_long_as_wanted() {
        let mut random = Random::new(2);
        for bytes in [1, 300, 2000] {
            let mut out = String::new();
            push_block(&mut out, &mut random, bytes);
            assert!(out.starts_with("```") && out.ends_with("\n```") && out.matches("```").count() == 2, "{out}");
            assert!((bytes..bytes + 800).contains(&(out.len() as u64)), "{}", out.len());
        }
    }
}
