//! The languages: words in the order of their frequency, syllables for words that no list holds, and punctuation.

use crate::random::{Random, mix};
use std::sync::LazyLock;

/// How many places a table of words has; a power of two, so that some bits of a random number are a place.
const PLACES: usize = 1 << 13;

/// Words that are drawn with the frequencies of Zipf's law.
pub(crate) struct Vocabulary {
    words: Vec<&'static str>,
    /// For each place the position of a word: frequent words have many places, so that a draw is one look.
    places: Vec<u16>,
}

impl Vocabulary {
    /// The words of a text, the most frequent first. The higher `evenness` is, the less do the first ones stand out.
    fn new(text: &'static str, evenness: u64) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        // Mandelbrot's form of the law.
        let weight = |rank: usize| (1 << 24) / (rank as u64 + evenness);
        let total: u64 = (0..words.len()).map(weight).sum();
        let mut places = Vec::with_capacity(PLACES);
        let (mut word, mut reached) = (0, weight(0));
        for place in 0..PLACES as u64 {
            while reached * (PLACES as u64) <= place * total {
                word += 1;
                reached += weight(word);
            }
            places.push(word as u16);
        }
        Self { words, places }
    }

    /// The word that the lowest bits of a random number stand for.
    pub(crate) fn draw(&self, bits: u64) -> &'static str {
        self.words[usize::from(self.places[bits as usize & (PLACES - 1)])]
    }

    /// A word from the rarer half of the list: one that says what a text is about.
    pub(crate) fn rare(&self, random: &mut Random) -> &'static str {
        let half = self.words.len() / 2;
        self.words[half + random.below((self.words.len() - half) as u64) as usize]
    }
}

/// How a language is written.
pub(crate) struct Language {
    /// Its words.
    pub(crate) common: Vocabulary,
    syllables: Vec<&'static str>,
    /// What stands between words, and between sentences.
    pub(crate) space: &'static str,
    /// What stands between clauses, with the space after it.
    pub(crate) comma: &'static str,
    /// What ends a sentence that says something.
    pub(crate) stop: &'static str,
    /// What begins a question and an exclamation.
    pub(crate) openings: (&'static str, &'static str),
    /// What ends a question.
    pub(crate) question: &'static str,
    /// What ends an exclamation.
    pub(crate) exclamation: &'static str,
    /// What a small i becomes at the beginning of a sentence.
    pub(crate) capital_i: char,
}

impl Language {
    fn new(words: &'static str, syllables: &'static str) -> Self {
        Self {
            common: Vocabulary::new(words, 3),
            syllables: syllables.split_whitespace().collect(),
            space: " ",
            comma: ", ",
            stop: ".",
            openings: ("", ""),
            question: "?",
            exclamation: "!",
            capital_i: 'I',
        }
    }

    fn unspaced(words: &'static str, syllables: &'static str, comma: &'static str) -> Self {
        Self { space: "", comma, stop: "。", question: "？", exclamation: "！", ..Self::new(words, syllables) }
    }

    /// Adds the word that a number stands for: always the same, and hardly ever one that a list holds.
    pub(crate) fn invent(&self, number: u64, out: &mut String) {
        let mut bits = mix(number);
        for _ in 0..2 + (bits >> 62) % 3 {
            out.push_str(self.syllables[(bits & 0xFFFF) as usize % self.syllables.len()]);
            bits >>= 16;
        }
    }

    /// Whether this is English, the only language with a list of topics.
    pub(crate) fn is_english(&self) -> bool {
        std::ptr::eq(self, &LANGUAGES[0])
    }

    /// One of the languages, as often as conversations are held in it.
    pub(crate) fn draw(random: &mut Random) -> &'static Self {
        let mut place = random.below(SHARES.iter().sum());
        for (language, share) in LANGUAGES.iter().zip(SHARES) {
            if place < share {
                return language;
            }
            place -= share;
        }
        &LANGUAGES[0]
    }
}

/// English words of topics: technical ones first, which also stand in other languages' technical texts.
pub(crate) static TOPICS: LazyLock<Vocabulary> =
    LazyLock::new(|| Vocabulary::new(include_str!("../words/english_topics.txt"), 40));

/// Of a thousand conversations, how many are held in each language.
const SHARES: [u64; 13] = [550, 100, 60, 60, 50, 60, 40, 20, 20, 20, 7, 7, 6];

/// The languages in the order of [`SHARES`].
static LANGUAGES: LazyLock<[Language; 13]> = LazyLock::new(|| {
    [
        Language::new(
            include_str!("../words/english.txt"),
            "ba ber bri cal cor dan del dor eth fen gar gil hal har ing jor kel ken lan lor mar mil mor nor ol pen per ral \
             ren rin ro sel sta ster tal tel ton tor ul val ver vin wen wick win wor yor zan quin thorn ley ford by",
        ),
        Language::new(
            include_str!("../words/german.txt"),
            "be ge ver ent auf aus bach berg burg dorf feld gart hau hof holz kam kirch land licht mann mei mühl neu ober \
             rat rei rung schaft schlag schön stadt stein tal trag tum über wald wart wei werk wirt zeit zug lich keit heit",
        ),
        Language {
            question: "\u{a0}?",
            exclamation: "\u{a0}!",
            ..Language::new(
                include_str!("../words/french.txt"),
                "a an au bel bois bon bou cha clai cour da dé eau fleu fon gar gne her jou lai lan lieu mai mar mon mou nou o \
                 par pon pré quet rai rou sain sau seau sé son tai teau tou val vau vil voi eur ment tion elle ette",
            )
        },
        Language {
            openings: ("¿", "¡"),
            ..Language::new(
                include_str!("../words/spanish.txt"),
                "al ba bre ca cho cor da dor es fer gar gui ja jo la lle lo ma men mo na ni ño or pa pe que ra res ro rre sa \
                 san so ta te ti to tu va ver vi ya za zo ción dad mente illo",
            )
        },
        Language::new(
            include_str!("../words/russian.txt"),
            "ба бе бо ва ве во га го гра да де до жа за зе ка ки ко кра ла ле ли ло ма ме ми мо на не ни но па пе по про ра ре \
             ро са се со ста та те то тра ха че ша ость ение ский ник ов ин",
        ),
        Language::unspaced(
            include_str!("../words/chinese.txt"),
            "安 白 宝 北 彩 长 晨 成 川 春 达 德 东 方 飞 峰 福 刚 光 广 国 海 汉 浩 宏 华 辉 嘉 建 江 杰 金 京 静 凯 康 兰 丽 林 龙 梅 明 \
             南 宁 平 奇 青 清 泉 仁 荣 瑞 山 尚 胜 石 思 泰 天 通 威 文 武 西 祥 新 兴 雅 阳 永 友 宇 玉 源 远 云 泽 志 中 子",
            "，",
        ),
        Language::unspaced(
            include_str!("../words/japanese.txt"),
            "ア イ ウ エ オ カ キ ク ケ コ サ シ ス セ ソ タ チ ツ テ ト ナ ニ ノ ハ ヒ フ ヘ ホ マ ミ ム メ モ ラ リ ル レ ロ ワ ン ガ ギ グ ゴ \
             ジ ズ ダ デ ド バ ビ ブ ベ ボ パ ピ プ ー ショ チャ リュ",
            "、",
        ),
        Language {
            comma: "، ",
            question: "؟",
            ..Language::new(
                include_str!("../words/arabic.txt"),
                "با بر تا جا جم حا حر خا دا در را رس زا سا سم شا شر صا طا عا عل فا قا قر كا لا ما مر نا نو ها وا يا ان ات ون ية",
            )
        },
        Language {
            stop: "।",
            ..Language::new(
                include_str!("../words/hindi.txt"),
                "अ आ क का कि कु ग गा च चा ज जा त ता ति द दा दे न ना नि प पा पु ब बा भ म मा मि मु र रा रि ल ला ली व वा वि श शा स सा सु ह हा",
            )
        },
        Language::new(
            include_str!("../words/korean.txt"),
            "가 강 건 경 고 광 국 기 김 나 남 노 다 대 도 동 라 로 리 마 명 모 무 문 미 민 바 박 배 백 보 부 사 산 서 선 성 소 수 승 시 신 아 \
             안 양 영 오 용 우 원 유 윤 은 이 인 일 자 장 재 정 조 종 주 준 지 진 찬 창 천 철 태 하 한 해 현 호 홍 화 훈 희",
        ),
        Language {
            question: ";",
            ..Language::new(
                include_str!("../words/greek.txt"),
                "α βα γα γε δα δι ε ζω θε και κα κο λα λε λι λο μα με μι μο να νε νι νο ξε πα πε πο ρα ρε ρι ρο σα σι στα τα τε \
                 τρι φα φι χα χρι ψι ος ης ια ικη",
            )
        },
        Language {
            capital_i: 'İ',
            ..Language::new(
                include_str!("../words/turkish.txt"),
                "al an ba bi can da de dil er ge gü hal in ka kan ke kö la le lik lu ma me nak o öz pa ra sa se sev şa şe ta te tü \
                 un ya ye yıl yo zan ci çi ğı lar ler",
            )
        },
        Language::new(
            include_str!("../words/polish.txt"),
            "ba bie bo brze chle cza da do dą gó gra ja je ka kie ko kra krze la le lu ła mie mo na nie no ową po prze ra rze ro \
             sie sta szcze ta trze wa wie wo za zie ście ość nik ska",
        ),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn lists_are_long_enough_and_name_no_word_twice() {
        let least = [400, 150, 150, 150, 150, 250, 150, 80, 80, 80, 80, 80, 80];
        let lists = LANGUAGES.iter().map(|language| &language.common).zip(least);
        for (list, least) in lists.chain([(&*TOPICS, 400)]) {
            assert!(list.words.len() >= least, "{} of {least}", list.words.len());
            assert_eq!(list.words.iter().collect::<HashSet<_>>().len(), list.words.len());
        }
    }

    #[test]
    fn languages_are_drawn_as_often_as_their_shares_say() {
        assert_eq!(SHARES.iter().sum::<u64>(), 1000);
        let mut random = Random::new(1);
        let english = (0..200_000).filter(|_| Language::draw(&mut random).is_english()).count();
        assert!((108_000..112_000).contains(&english), "{english}");
    }

    #[test]
    fn every_word_can_be_drawn_and_the_first_is_the_most_frequent() {
        for list in LANGUAGES.iter().map(|language| &language.common).chain([&*TOPICS]) {
            assert_eq!(list.places.iter().collect::<HashSet<_>>().len(), list.words.len());
            let count = |word: u16| list.places.iter().filter(|place| **place == word).count();
            assert!(count(0) > count(10) && count(10) > count(60));
        }
    }
}
