"""Patterns of what short answers are: dates, numbers, names, places, roles. They see spelling, not meaning.

The word lists are short and by hand: a word that is missing costs a made question, a wrong one makes a wrong
question.
"""

import re

from utils.answer_spelling import MONTHS

MONTH = f"(?:{'|'.join(month.capitalize() for month in MONTHS)})"
YEAR = r"(?:1[0-9]|20)\d\d"
# "3 May 1970", "May 3, 1970", "May 1970", "1970".
DATE = rf"(?:(?:\d{{1,2}} {MONTH}|{MONTH} \d{{1,2}},|{MONTH}),? )?{YEAR}"
_CAPITAL = "A-ZÀ-ÖØ-ÞĀČĐĪŁŌŚŞŠŪŽ"
_NAME_WORD = rf"[{_CAPITAL}][\w'’&-]*(?:\.(?=[ ,]|[{_CAPITAL}]))?(?:[{_CAPITAL}]\.)*"
_PARTICLE = r"(?:de|del|della|di|da|dos|van|von|der|den|bin|al|ibn|of|the|of the|and the|du|la|le|y)"
NAME = rf"(?:{_NAME_WORD})(?: (?:{_PARTICLE} )?(?:{_NAME_WORD}|\d{{1,4}}\b))*"
PLACE = rf"(?:the )?{NAME}(?:, {NAME}){{0,2}}"
_SMALL = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen twenty".split()
NUMBER = rf"(?:\d[\d,]*(?:\.\d+)?(?: (?:million|billion|thousand))?|{'|'.join(_SMALL)})"

# A date, place or name ends here, so that nothing of it is cut off.
_AFTER = "and by in on at for as with to from through under after when where while who which is was".split()
END = rf"(?=$|\.(?!\w)|[,;:]| (?:{'|'.join(_AFTER)})\b)"
# "Only Fools and Horses", "Harvard and Yale": more than one name, or one that is cut.
ALONE = r"(?!,? (?:and|or|&) (?:the )?[A-Z])"

DATE_RE = re.compile(rf"\b{DATE}\b")
NAME_RE = re.compile(NAME)

# Kinds of works, and what a question calls them.
WORKS = {
    **{
        "film": "movie",
        "movie": "movie",
        "documentary": "documentary",
        "sitcom": "show",
        "miniseries": "series",
    },
    **{"series": "series", "show": "show", "soap opera": "show", "episode": "episode", "album": "album"},
    **{
        "song": "song",
        "single": "song",
        "ballad": "song",
        "novel": "novel",
        "book": "book",
        "novella": "novella",
    },
    **{"play": "play", "opera": "opera", "musical": "musical", "poem": "poem", "short story": "story"},
    **{"game": "game", "video game": "game", "EP": "EP", "drama": "drama", "painting": "painting"},
    **{"manga series": "series", "comic book": "comic book", "magazine": "magazine", "ballet": "ballet"},
}
READ = frozenset("novel book novella poem story magazine".split()) | {"comic book"}
HEARD = frozenset("album song EP".split())

JOBS = (
    "film director|theatre director|stage director|television director|music director|film producer|"
    "record producer|television producer|executive producer|television presenter|"
    "television personality|radio presenter|voice actor|voice actress|child actor|character actor|"
    "racing driver|football manager|football coach|football player|basketball player|basketball coach|"
    "baseball player|tennis player|ice hockey player|hockey player|rugby player|cricket player|"
    "chess player|poker player|golf player|professional wrestler|mixed martial artist|martial artist|"
    "recording artist|visual artist|stand-up comedian|short story writer|science fiction writer|"
    "crime writer|fashion designer|graphic designer|game designer|military officer|army officer|"
    "naval officer|civil servant|voice-over artist|singer-songwriter|singer/songwriter|rapper|singer|"
    "songwriter|actor|actress|director|producer|screenwriter|playwright|novelist|writer|author|poet|"
    "essayist|journalist|composer|conductor|pianist|violinist|guitarist|bassist|drummer|cellist|"
    "saxophonist|trumpeter|violist|organist|keyboardist|vocalist|musician|musicologist|comedian|model|"
    "dancer|choreographer|painter|sculptor|illustrator|photographer|cartoonist|artist|architect|"
    "engineer|inventor|physicist|chemist|biologist|mathematician|astronomer|geologist|botanist|"
    "zoologist|naturalist|economist|philosopher|psychologist|psychoanalyst|psychiatrist|historian|"
    "archaeologist|anthropologist|sociologist|linguist|theologian|physician|surgeon|neurologist|lawyer|"
    "attorney|judge|politician|diplomat|statesman|soldier|explorer|astronaut|aviator|businessman|"
    "businesswoman|entrepreneur|philanthropist|activist|publisher|editor|critic|professor|teacher|"
    "scientist|computer scientist|missionary|bishop|priest|footballer|cricketer|swimmer|boxer|wrestler|"
    "cyclist|golfer|sprinter|skier|gymnast|figure skater|jockey|coach|chef|filmmaker|animator|"
    "screenwriter|television host|disc jockey|DJ|bandleader|lyricist|librettist|film editor|"
    "cinematographer|supermodel|criminal|gangster|serial killer|magician|sailor"
)
JOB_RE = re.compile(rf"\b(?:{JOBS})\b")

DEMONYMS = (
    "American|English|British|Scottish|Welsh|Irish|Northern Irish|Canadian|Australian|New Zealand|"
    "German|French|Italian|Spanish|Portuguese|Dutch|Belgian|Swiss|Austrian|Danish|Swedish|Norwegian|"
    "Finnish|Icelandic|Polish|Czech|Slovak|Hungarian|Romanian|Bulgarian|Serbian|Croatian|Slovenian|"
    "Greek|Turkish|Russian|Ukrainian|Estonian|Latvian|Lithuanian|Israeli|Egyptian|Iranian|Persian|"
    "Indian|Pakistani|Bangladeshi|Chinese|Japanese|South Korean|Korean|Taiwanese|Filipino|Philippine|"
    "Indonesian|Malaysian|Thai|Vietnamese|Cambodian|Mexican|Brazilian|Argentine|Chilean|Colombian|"
    "Peruvian|Cuban|Jamaican|Nigerian|Kenyan|South African|Ghanaian|Moroccan|Algerian|Hong Kong|"
    "Bosnian|Albanian|Georgian|Armenian|Puerto Rican|Venezuelan|Singaporean|Sri Lankan|Nepali|Lebanese|"
    "Syrian|Iraqi|Luxembourgish|Maltese"
)
# Nationality, genres and roles, as they come before a name: "American punk rock band Rise Against".
_ROLE = (
    "singer singers songwriter songwriters singer-songwriter singer/songwriter band bands duo trio "
    "group rapper artist artists musician musicians composer composers author authors writer writers "
    "novelist playwright poet director directors filmmaker filmmakers producer producers screenwriter "
    "screenwriters actor actress actors comedian journalist architect architects engineer painter "
    "sculptor designer company studio team label publisher developer network king queen emperor pope "
    "president minister physicist chemist mathematician scientist inventor businessman entrepreneur "
    "politician guitarist vocalist drummer frontman cartoonist animator photographer historian "
    "philosopher dj producer/director writer/director act orchestra choir club physician surgeon "
    "explorer cook chef missionary saint duchess duke prince princess officer general quarterback "
    "player coach watchmaker astronomer naturalist sovereign dramatist librettist lyricist entertainer "
    "supergroup boyband girl-group brand firm corporation manufacturer magazine newspaper broadcaster "
    "channel"
)
ROLES = frozenset(_ROLE.split())
_ROLE_MODIFIER = (
    "the an a rock pop punk hip hop hip-hop metal heavy indie alternative folk country jazz blues soul "
    "r&b electronic dance new wave hard progressive post-punk recording film television stage video "
    "game music popular former french-born acclaimed veteran famous legendary late boy girl vocal "
    "synthpop electropop psychedelic death black thrash gothic art glam britpop grunge garage house "
    "techno crime children's comic book fantasy science fiction horror romance and production record "
    "publishing renowned noted debut first-time experimental young teen celebrity screenplay christian "
    "gospel reggae ska pop-punk power space rookie independent fellow american"
)
ROLE_MODIFIERS = frozenset(_ROLE_MODIFIER.split())

_COUNTRIES = (
    "Afghanistan;Albania;Algeria;Argentina;Armenia;Australia;Austria;Azerbaijan;Bangladesh;Belarus;"
    "Belgium;Bolivia;Bosnia and Herzegovina;Botswana;Brazil;Bulgaria;Cambodia;Cameroon;Canada;Chile;"
    "China;Colombia;Croatia;Cuba;Cyprus;Czech Republic;Denmark;Ecuador;Egypt;England;Estonia;Ethiopia;"
    "Finland;France;Georgia;Germany;Ghana;Greece;Hungary;Iceland;India;Indonesia;Iran;Iraq;Ireland;"
    "Israel;Italy;Jamaica;Japan;Jordan;Kazakhstan;Kenya;Kosovo;Latvia;Lebanon;Libya;Lithuania;"
    "Luxembourg;Malaysia;Mali;Malta;Mexico;Moldova;Mongolia;Morocco;Mozambique;Myanmar;Namibia;Nepal;"
    "Netherlands;New Zealand;Nigeria;North Korea;Northern Ireland;Norway;Oman;Pakistan;Panama;Paraguay;"
    "Peru;Philippines;Poland;Portugal;Qatar;Romania;Russia;Rwanda;Saudi Arabia;Scotland;Senegal;Serbia;"
    "Singapore;Slovakia;Slovenia;Somalia;South Africa;South Korea;Spain;Sri Lanka;Sudan;Sweden;"
    "Switzerland;Syria;Taiwan;Tanzania;Thailand;Tunisia;Turkey;Uganda;Ukraine;United Kingdom;"
    "United States;Uruguay;Uzbekistan;Venezuela;Vietnam;Wales;Yemen;Zambia;Zimbabwe"
)
COUNTRIES = frozenset(_COUNTRIES.split(";"))
