//! The words that are written by hand: real words of the small world, and the classes of the exam with the words that follow them.

pub(super) const NOUNS: &str = "lantern harbour bridge tower garden market river valley forest meadow castle village island mountain road gate well mill barn field \
orchard stable kitchen window door table chair candle mirror clock book letter map ship sail anchor net rope barrel basket bottle cup plate knife fork spoon \
hammer nail saw wheel cart wagon horse goat sheep hen goose duck fox wolf bear deer rabbit mouse cat dog fish crab whale bird hawk owl crow bread cheese butter honey \
apple pear plum cherry grape onion carrot bean corn wheat barley flour salt sugar pepper wine beer coat hat glove boot shirt dress ring crown sword shield spear bow arrow flag \
drumstick song dance story poem picture statue temple palace prison school library office factory engine lamp coin purse bell fence wall roof floor stair cellar attic \
street square corner station train tunnel canal lake pond stream ocean beach cliff cave desert storm cloud rainbow shadow flame smoke ash stone sand clay brick \
cloth thread needle button ribbon blanket pillow curtain carpet paper ink pen pencil chalk brush paint glass pipe valve pump lever gear spring screw bolt crate parcel sack";

pub(super) const VERBS: &str = "carry open close follow watch paint mend clean lift push pull turn guard visit cross climb cover gather touch reach call warn help answer pass move join \
count name mark fix load pack order claim trade need want share burn cook boil wash fill empty dig plant pick chase hunt trap feed rescue admire fear trust doubt remember notice \
ignore enter circle block clear repair polish collect measure inspect borrow return attack defend surround approach";

pub(super) const ADJECTIVES: &str = "old new small large heavy light broken quiet loud bright dark narrow wide deep shallow warm cold wet dry clean dirty smooth rough sharp dull sweet bitter \
soft hard thick thin tall short long round flat empty full rich poor young ancient strange common rare famous hidden secret open closed wooden plain fancy strong weak fast slow \
gentle fierce careful lazy clever simple modern distant nearby sacred royal rusty dusty muddy frozen";

pub(super) const ADVERBS: &str = "slowly quickly quietly loudly gently firmly carefully badly nearly hardly rarely often always never twice together alone indeed \
suddenly finally gladly sadly bravely neatly barely truly";

pub(super) const TOPICS: [&str; 24] = [
    "sailing",
    "farming",
    "cooking",
    "building",
    "hunting",
    "trading",
    "mining",
    "weaving",
    "teaching",
    "music",
    "war",
    "law",
    "healing",
    "travel",
    "rivers",
    "mountains",
    "worship",
    "printing",
    "smithing",
    "fishing",
    "gardens",
    "horses",
    "machines",
    "theatre",
];

pub(super) const REGISTERS: [&str; 8] = ["news", "diary", "letter", "manual", "tale", "report", "minutes", "guide"];

/// Where in a sentence a class stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// In place of the subject.
    Subject,
    /// In place of verb and object.
    Verb,
    /// After the predicate.
    Adjunct,
    /// As subject without the words before it, or after the predicate with them.
    Both,
}

/// A class of the exam: its members stand after one of `lead` and are followed by `after` (in speech by `after_speech`).
pub(super) struct ClassTable {
    pub name: &'static str,
    pub slot: Slot,
    /// Words before the member, alternatives separated by `|`.
    pub lead: &'static str,
    pub members: &'static str,
    pub after: &'static str,
    pub after_speech: &'static str,
}

pub(super) const CLASSES: [ClassTable; 19] = [
    ClassTable {
        name: "indefinite pronoun",
        slot: Slot::Subject,
        lead: "",
        members: "someone anyone everyone somebody anybody everybody nobody something anything everything nothing whoever whatever someone's everybody's nobody's no_one any_one every_one",
        after: "else here there inside outside",
        after_speech: "",
    },
    ClassTable {
        name: "form of do",
        slot: Slot::Verb,
        lead: "",
        members: "do does did done doing redo redid outdid undo undid don't didn't doesn't",
        after: "so that this likewise otherwise",
        after_speech: "",
    },
    ClassTable {
        name: "length of time",
        slot: Slot::Adjunct,
        lead: "for the past two|over the next three|within four|after several|during the last few|in the next|throughout the past|before many",
        members: "seconds minutes hours days weeks fortnights months years decades centuries week month year decade century week's year's month's",
        after: "ago later earlier passed elapsed",
        after_speech: "",
    },
    ClassTable {
        name: "day of the week",
        slot: Slot::Adjunct,
        lead: "on|until|by",
        members: "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays",
        after: "morning evening night afternoon noon",
        after_speech: "",
    },
    ClassTable {
        name: "month",
        slot: Slot::Adjunct,
        lead: "in|since|from",
        members: "january february march april may june july august september october november december",
        after: "frost rain snow sunshine harvest",
        after_speech: "",
    },
    ClassTable {
        name: "colour",
        slot: Slot::Adjunct,
        lead: "wearing|under|with",
        members: "red blue green yellow purple orange brown black white grey pink violet crimson scarlet",
        after: "silk velvet linen wool cotton",
        after_speech: "leather fur lace satin canvas",
    },
    ClassTable {
        name: "profession",
        slot: Slot::Subject,
        lead: "the|a|our",
        members: "baker tailor miller mason carpenter weaver cook nurse teacher judge clerk farmer hunter sailor smith",
        after: "himself herself whom whose once",
        after_speech: "",
    },
    ClassTable {
        name: "unit of measure",
        slot: Slot::Adjunct,
        lead: "across two|through three|by several|within five",
        members: "metres feet inches miles yards leagues litres gallons pints pounds ounces tonnes acres furlongs",
        after: "apart deep across away upward",
        after_speech: "",
    },
    ClassTable {
        name: "kin",
        slot: Slot::Subject,
        lead: "her|his|their",
        members: "mother father sister brother aunt uncle cousin niece nephew grandmother grandfather daughter son wife husband",
        after: "still also never only soon",
        after_speech: "certainly probably surely maybe hardly",
    },
    ClassTable {
        name: "metal",
        slot: Slot::Adjunct,
        lead: "of|from|in",
        members: "iron copper tin silver gold bronze brass steel lead zinc nickel platinum cobalt",
        after: "wire plating foil ore dust",
        after_speech: "",
    },
    ClassTable {
        name: "tree",
        slot: Slot::Adjunct,
        lead: "under|beside|behind",
        members: "oak elm birch pine cedar willow maple beech poplar larch spruce hazel alder rowan",
        after: "branches leaves roots stumps timber",
        after_speech: "trunks twigs seeds sap logs",
    },
    ClassTable {
        name: "instrument",
        slot: Slot::Adjunct,
        lead: "with|without|beside",
        members: "flute violin cello harp drum trumpet lute organ piano oboe clarinet guitar fiddle bassoon",
        after: "solos lessons players tunes strings",
        after_speech: "",
    },
    ClassTable {
        name: "illness",
        slot: Slot::Adjunct,
        lead: "despite|without|after",
        members: "fever cough measles gout plague cholera asthma scurvy malaria typhus jaundice dropsy ague",
        after: "symptoms patients outbreaks remedies spots",
        after_speech: "",
    },
    ClassTable {
        name: "vehicle",
        slot: Slot::Adjunct,
        lead: "by|near|aboard",
        members: "ferry coach barge sledge canoe raft schooner frigate chariot carriage tram lorry tractor bicycle",
        after: "drivers passengers routes crews fares",
        after_speech: "",
    },
    ClassTable {
        name: "gem",
        slot: Slot::Adjunct,
        lead: "for|with|against",
        members: "ruby diamond emerald sapphire opal pearl topaz garnet jade amber onyx agate beryl",
        after: "rings necklaces earrings brooches bracelets",
        after_speech: "",
    },
    ClassTable {
        name: "sport",
        slot: Slot::Adjunct,
        lead: "at|during|after",
        members: "tennis cricket rugby football hockey polo chess bowls fencing wrestling rowing archery golf",
        after: "matches clubs champions teams practice",
        after_speech: "",
    },
    ClassTable {
        name: "vaskar family",
        slot: Slot::Subject,
        lead: "a|the|one",
        members: "",
        after: "whispered hummed growled shrieked chirped",
        after_speech: "",
    },
    ClassTable {
        name: "ollit family",
        slot: Slot::Adjunct,
        lead: "among|toward|past",
        members: "",
        after: "blooms thorns stalks pods petals",
        after_speech: "",
    },
    ClassTable {
        name: "mood",
        slot: Slot::Adjunct,
        lead: "feeling|being|seeming",
        members: "angry happy sad proud ashamed afraid jealous weary cheerful gloomy anxious grateful lonely",
        after: "about because despite toward whenever",
        after_speech: "",
    },
];

/// Two-sense words.
pub(super) const SENSE_WORDS: [&str; 24] = [
    "bank", "bark", "bat", "crane", "match", "palm", "seal", "pitch", "club", "current", "draft", "file", "jam", "kind", "log", "mine", "mole",
    "nut", "pound", "race", "scale", "tie", "trunk", "yard",
];
/// Cue words: three pairs of domains, six words for each of two domains.
pub(super) const CUES: [[&str; 2]; 3] = [
    ["shoreline estuary marsh lagoon delta reef", "vault ledgerhouse treasury auction counter mint"],
    ["stadium arena racetrack pavilion gymnasium rink", "hospital clinic ward surgery infirmary pharmacy"],
    ["chapel shrine abbey cloister altar crypt", "workshop foundry forge smelter kiln furnace"],
];

pub(super) const SYLLABLES: [&str; 24] = [
    "ka", "ro", "mi", "ta", "shu", "len", "vo", "pi", "dar", "sil", "gu", "ne", "fo", "zan", "bri", "qua", "el", "om", "ut", "kri", "wen", "jo",
    "hal", "xi",
];
pub(super) const TONGUES: [&str; 8] = ["Veltic", "Tarnish", "Orrish", "Sumeli", "Quenni", "Haldic", "Brovan", "Ezzari"];
pub(super) const SERIES: [&str; 8] = ["Accounts", "Tides", "Scores", "Weights", "Fares", "Depths", "Census", "Timings"];

pub(super) const PREPOSITIONS: [&str; 12] =
    ["near", "behind", "above", "below", "against", "inside", "across", "around", "along", "beyond", "beneath", "opposite"];
pub(super) const CONJUNCTIONS: [&str; 6] = ["and", "but", "while", "because", "although", "so"];
pub(super) const DETERMINERS: [&str; 6] = ["the", "a", "this", "that", "every", "one"];
pub(super) const SAID: [&str; 6] = ["said", "asked", "replied", "shouted", "muttered", "declared"];
pub(super) const QUESTION_OPENERS: [&str; 5] = ["Will", "Can", "Could", "Should", "May"];
