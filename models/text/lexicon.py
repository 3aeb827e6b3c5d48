"""Word tables of English, German, Spanish, French and Chinese: what must be known of a language to check a caption.

Everything is lower case and without accents (see `reading.fold`). The tables are small on purpose: a word that no
table knows counts as a noun, so the check errs on the strict side.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..files import read_text

LANGUAGES = ("en", "de", "es", "fr", "zh")


def table(**rows: str) -> dict[str, frozenset[str]]:
    """Per language a set of words, written with spaces between."""
    return {language: frozenset(words.split()) for language, words in rows.items()}


# words that carry no content of a picture
STOPWORDS = table(
    en="a an the this that these those some any each every all both its it is are was were be been being am has have "
    "had do does did will would can could should may might must shall there here and or but nor so as if than then "
    "while when where who whom whose which what how of in on at to from by with into onto over under above below "
    "behind beside between through across along around about against toward towards past near next off out up down "
    "for during before after until upon within inside outside i you he she we they me him her us them my your his "
    "our their one's own very too also just only even still again more most much many few such other another like "
    "please video clip footage movie film scene shot shows showing show generate create make depicting image picture "
    "there's it's who's that's let's",
    de="der die das den dem des ein eine einen einem einer eines und oder aber denn wie als wenn wahrend wo wer was "
    "in im an am auf aus bei beim mit nach von vom zu zum zur uber unter vor hinter neben zwischen durch um gegen "
    "entlang fur bis seit ist sind war waren wird werden hat haben sein seine seinen seinem ihr ihre ihren ihrem er "
    "sie es wir ich du man sich dann dort hier da so sehr auch nur noch schon wieder mehr viel viele ab hoch runter "
    "herunter hinunter herum vorbei heran heraus hinaus davon dabei bitte video clip film szene zeigt zeige erstelle",
    es="el la los las lo un una unos unas y e o u pero que como cuando donde quien cual de del a al en con por para "
    "sobre bajo entre hacia hasta desde tras ante contra durante es son esta estan era eran ser estar hay ha han se "
    "su sus mi tu le les este estos esa ese esos muy mas tambien solo aun ya mientras luego alrededor junto dentro "
    "fuera arriba abajo detras delante frente video clip escena muestra",
    fr="le la les l un une des du de d et ou mais que qui quand ou dont comme a au aux en dans sur sous avec par pour "
    "entre vers depuis chez contre pendant est sont etait etre a ont il elle ils elles on se s son sa ses leur leurs "
    "ce cet cette ces y tres plus aussi seulement encore deja puis alors autour pres dehors dedans devant derriere "
    "haut bas travers cote j c n m t qu video clip scene montre",
    zh="的 了 在 和 与 着 上 下 里 中 是 有 被 把 从 到 向 往 对 于 及 或 而 并 也 都 就 又 再 很 地 得 个 只 "
    "条 头 匹 辆 座 棵 朵 "
    "位 名 张 片 颗 艘 架 群 双 对 本 把 台 间 栋 根 块 滴 杯 一个 一只 一条 一头 一匹 一辆 一座 一棵 一朵 "
    "一位 一名 一张 一片 "
    "一颗 一群 一些 这个 那个 这 那 它 他 她 们 之 其 正在 正 旁边 前面 后面 上面 下面 里面 外面 周围 中间 "
    "之间 视频 画面",
)
# what happens may be said in other words ("walks" -> "strolls"), so verbs need not survive
VERBS = table(
    en="go come move walk run jump bounce roll fall drop fly swim slide spin rotate turn circle orbit crash collide "
    "hit bump hop hide appear disappear vanish stand sit lie rest stay stop start begin keep hold carry lift throw "
    "catch kick push pull drive ride sail float drift glide rise sink climb crawl dance sing play eat drink cook "
    "sleep wake look watch see stare smile laugh cry talk speak say wear read write paint draw open close blow shine "
    "glow burn melt freeze grow bloom flow pour splash drip spill break fold wave chase follow lead meet pass cross "
    "reach leave enter exit travel wander stroll gallop race rush swing shake sway flutter flap explode land take get "
    "give put set let hover rumble swirl tumble stretch lean leap dive cut mix stir knock cast fill pan zoom tilt "
    "track dolly film build make use work wait become feel hang march perform surround cover reflect",
    de="gehen geht lauft laufen rennt rennen springt springen hupft hupfen rollt rollen fallt fallen fliegt fliegen "
    "schwimmt schwimmen rutscht dreht drehen kreist kreisen steht stehen sitzt sitzen liegt liegen halt halten bleibt "
    "tanzt tanzen singt spielt spielen isst essen trinkt trinken schlaft schlafen schaut schauen sieht lacht weint "
    "spricht sagt tragt tragen fahrt fahren reitet segelt schwebt treibt steigt sinkt klettert kriecht wachst bluht "
    "brennt leuchtet scheint weht fliesst bewegt bewegen verschwindet erscheint kommt kommen offnet schliesst jagt "
    "folgt trifft prallt stosst landet schwenkt zoomt umkreist spaziert galoppiert schneit regnet lasst macht kocht",
    es="va van viene corre corren camina caminan anda salta saltan rebota rebotan rueda ruedan cae caen vuela vuelan "
    "nada nadan desliza gira giran choca chocan esconde sube baja baila bailan canta juega juegan come bebe duerme "
    "mira rie llora habla dice lleva conduce monta navega flota crece florece arde brilla sopla fluye mueve mueven "
    "desaparece aparece abre cierra persigue sigue pasa cruza corriendo caminando saltando rodando cayendo volando "
    "nadando girando bailando jugando durmiendo comiendo sentado sentada",
    fr="va vont vient court courent marche marchent saute sautent rebondit rebondissent roule roulent tombe tombent "
    "vole volent nage nagent glisse tourne tournent heurte cache monte descend danse dansent chante joue jouent mange "
    "boit dort regarde rit pleure parle dit porte conduit navigue flotte pousse fleurit brule brille souffle coule "
    "bouge disparait apparait ouvre ferme poursuit suit passe traverse courant marchant sautant roulant tombant "
    "volant nageant tournant dansant jouant assis assise",
    zh="跑 奔跑 走 走路 散步 飞 飞翔 飞行 弹跳 弹起 跳 跳跃 跳舞 滚动 滚 落下 掉落 坠落 落 坐 站 躺 看 吃 喝 "
    "游 游泳 移动 穿过 "
    "旋转 转动 消失 出现 睡觉 睡 玩 玩耍 唱歌 骑 开 开车 漂浮 燃烧 绽放 流动 碰撞 撞 环绕 追逐 追 爬 推 拉 拿 "
    "抱 笑 哭 说",
)
NEGATIONS = table(
    en="no not without never none nobody nothing neither nor cannot lacks lacking free absent devoid empty hardly "
    "isn't aren't doesn't don't didn't won't wasn't weren't can't couldn't shouldn't wouldn't hasn't haven't isnt "
    "doesnt dont cant wont arent",
    de="kein keine keinen keinem keiner keines nicht ohne nie niemals niemand nichts weder noch frei",
    es="no sin nunca jamas nadie nada ningun ninguna ninguno tampoco ni",
    fr="pas sans jamais personne rien aucun aucune ni non",
    zh="没有 没 不 无 别 未 非 毫无",
)
# a narrower colour does not contradict the wider one, nor the other way round
FAMILIES = {
    "crimson": "red",
    "scarlet": "red",
    "ruby": "red",
    "maroon": "red",
    "teal": "turquoise",
    "cyan": "turquoise",
    "aqua": "turquoise",
    "azure": "blue",
    "navy": "blue",
    "cobalt": "blue",
    "lime": "green",
    "emerald": "green",
    "amber": "orange",
    "violet": "purple",
    "lilac": "purple",
    "indigo": "purple",
    "magenta": "pink",
    "ivory": "white",
    "gold": "yellow",
}
# words that mean the same for a check, in one language
SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset(["big", "large", "huge", "giant"]),
    frozenset(["small", "little", "tiny"]),
    frozenset(["ball", "sphere"]),
    frozenset(["grey", "gray"]),
    frozenset(["color", "colour", "colors", "colours"]),
    frozenset(["person", "people"]),
    frozenset(["child", "kid", "children", "kids"]),
    frozenset(["tv", "television"]),
    frozenset(["bike", "bicycle"]),
)
IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "leaves": "leaf",
    "wolves": "wolf",
    "knives": "knife",
    "lives": "life",
    "shelves": "shelf",
    "loaves": "loaf",
    "firemen": "fireman",
    "snowmen": "snowman",
    "oxen": "ox",
    "fell": "fall",
    "ran": "run",
    "flew": "fly",
    "swam": "swim",
    "lying": "lie",
    "stood": "stand",
    "sat": "sit",
}
# adverbs look alike; these do not count as such
NOT_ADVERBS = frozenset(
    """
    butterfly butterflies family fly dragonfly firefly jelly lily belly bully italy july
    """.split()
)


@lru_cache
def colours() -> dict[str, dict[str, str]]:
    """Per language: the words for colours -> the colour."""
    found: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for row in _rows("colours.txt"):
        colour, words = row.split(":", 1)
        for language, options in zip(LANGUAGES, words.split("/"), strict=True):
            found[language] |= dict.fromkeys(options.split(), colour)
    return found


@lru_cache
def glossary() -> tuple[dict[str, str], ...]:
    """Common nouns, each in every language, to follow them through a translation."""
    return tuple(dict(zip(LANGUAGES, row.split(), strict=True)) for row in _rows("glossary.txt"))


@lru_cache
def english(name: str) -> frozenset[str]:
    """English words of one kind: "beings" (people and animals) or "places"."""
    return frozenset(word for row in _rows(f"{name}.txt") for word in row.split())


def _rows(name: str) -> list[str]:
    lines = read_text(Path(__file__).parent / "tables" / name).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]
