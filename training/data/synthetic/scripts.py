"""Words in the scripts of the world, to be rendered: by script, with characters to know it by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Script:
    """A writing system and something to write in it.

    Attributes:
        name: in English.
        share: how often rendered text is in it, relative to the other scripts at hand.
        text: words to choose from with spaces between them, or single characters without.
        spaced: whether its words are written with spaces between them.
        right_to_left: whether lines start at the right.
        shaped: whether glyphs depend on their neighbours, so that Pillow needs Raqm.
    """

    name: str
    share: float
    text: str
    spaced: bool = True
    right_to_left: bool = False
    shaped: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What to choose from."""
        return tuple(self.text.split() if self.spaced else self.text)

    @property
    def probe(self) -> str:
        """The characters that a font must have to be used for this script."""
        cased = self.name in _CASED
        written = self.text + self.text.upper() + _NUMBERS if cased else self.text
        return "".join(dict.fromkeys(written.replace(" ", "")))

    def line(self, rng: np.random.Generator, characters: int) -> str:
        """Random words of about that many characters together, at least one word."""
        words: list[str] = []
        length = 0
        while length < characters:
            word = self.words[rng.integers(len(self.words))]
            if self.name in _CASED:
                draw = rng.random()
                if draw < 0.15:
                    word = word.capitalize()
                elif draw < 0.18:
                    word = word.upper()
                elif draw < 0.26:
                    word = number(rng)
                elif draw < 0.36:
                    word += _PUNCTUATION[rng.integers(len(_PUNCTUATION))]
            words.append(word)
            length += len(word) + self.spaced
        return (" " if self.spaced else "").join(words)


_CASED = frozenset({"Latin", "accented Latin", "Greek", "Cyrillic"})
_NUMBERS = "0123456789€%,.:;!?–)…"
_PUNCTUATION = (",", ".", ",", ".", ":", ";", "!", "?", " –", ")", "…")


def number(rng: np.random.Generator) -> str:
    """A number as tables and labels show it."""
    value = int(rng.integers(10 ** int(rng.integers(1, 6))))
    forms = (f"{value}", f"{value:,}", f"{value / 100:.2f}", f"{value % 100} %", f"€{value}")
    return forms[rng.integers(len(forms))]


LATIN = Script(
    "Latin",
    0.38,
    "the of and to in is that it was for on are with as his they be at one have this from or "
    "had by hot but some what there we can out other were all your when up use word how said "
    "an each she which do their time if will way about many then them would write like these "
    "her long make thing see him two has look more day could go come did my sound no most "
    "number who over know water than call first people may down side been now find search "
    "settings download upload Save Cancel Open File Edit View Help total price invoice date "
    "quick brown fox jumps lazy dog",
)
ACCENTED = Script(
    "accented Latin",
    0.12,
    "Straße größer Übung Käse für éléments français garçon où être año señor niño mañana ação "
    "não coração È perché città Łódź źródło część být žlutý kůň şehir ağaç için på förälder "
    "smørrebrød ij een huis Œuvre jalapeño cœur ça œuf ärger één čaj řeka",
)
CYRILLIC = Script(
    "Cyrillic",
    0.10,
    "и в не на я быть он с что это весь она они мы как год человек время рука дело жизнь день "
    "новый большой цена сохранить файл поиск настройки отмена здравствуйте мир съешь ещё этих "
    "мягких французских булок щука объём їжак ґанок мова дякую",
)
GREEK = Script(
    "Greek",
    0.06,
    "και το να του η της με που την από για είναι στο τα δεν θα ένας χρόνος κόσμος άνθρωπος "
    "αρχείο αναζήτηση τιμή νέο μέρα ζωή φως ψυχή ξένος όνομα ευχαριστώ λέξη βιβλίο",
)
CHINESE = Script(
    "Chinese",
    0.07,
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下"
    "过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都"
    "两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重"
    "新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想"
    "，。、：？！（）",
    spaced=False,
)
JAPANESE = Script(
    "Japanese",
    0.06,
    "のにはをたがでてとしれさあるいもなこんまらりすうかきくけせそちつねひふへほみむめやゆよろわ"
    "アイウエオカキクケコサシスセソタテトナニハヒフマミムメモラリルレロンー日本語東京駅時間電話番号"
    "設定検索保存会社情報人気料理写真新着一覧中止、。・「」",
    spaced=False,
)
KOREAN = Script(
    "Korean",
    0.05,
    "안녕하세요 감사합니다 검색 설정 저장 취소 파일 열기 새로운 사람 시간 나라 한국어 서울 "
    "이름 가격 오늘 내일 우리는 그리고 하지만 물 불 바람 하늘 사진 회사 정보 확인 전체 보기",
)
ARABIC = Script(
    "Arabic",
    0.06,
    "في من على إلى هذا التي كان عن مع ما كل بعد يوم لا السلام عليكم شكرا بحث حفظ إلغاء ملف "
    "جديد الإعدادات المدينة العالم كتاب الوقت صورة اللغة العربية مرحبا سعر",
    right_to_left=True,
    shaped=True,
)
HEBREW = Script(
    "Hebrew",
    0.02,
    "של את על לא זה עם הוא כל גם אני שלום תודה חיפוש שמירה קובץ חדש זמן עולם ספר יום",
    right_to_left=True,
    shaped=True,
)
DEVANAGARI = Script(
    "Devanagari",
    0.06,
    "है के में की का से को और नहीं यह हिन्दी भाषा नमस्ते धन्यवाद खोज सहेजें फ़ाइल नया समय दुनिया "
    "पुस्तक दिन क्षेत्र ज्ञान श्रीमान विद्यार्थी मूल्य",
    shaped=True,
)
THAI = Script(
    "Thai",
    0.02,
    "สวัสดี ขอบคุณ ค้นหา บันทึก ยกเลิก ไฟล์ ใหม่ เวลา โลก หนังสือ วันนี้ ราคา ภาษาไทย",
    shaped=True,
)
ALL = (
    LATIN,
    ACCENTED,
    CYRILLIC,
    GREEK,
    CHINESE,
    JAPANESE,
    KOREAN,
    ARABIC,
    HEBREW,
    DEVANAGARI,
    THAI,
)
