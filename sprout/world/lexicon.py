"""The words of the world, by kind. Plain tuples; documents and skills draw from them."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MONTHS = _words("January February March April May June July August September October November December")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
COLOURS = _words("red blue green yellow white black brown grey purple orange pink silver gold violet crimson teal")
ANIMALS = _words(
    "goat cat dog horse sheep cow pig duck goose hen rabbit fox badger otter hedgehog squirrel mouse rat owl crow raven "
    "sparrow robin swan heron eagle hawk falcon pigeon parrot turtle frog toad snail beetle bee ant spider moth deer "
    "wolf bear lynx boar donkey mule pony lamb calf kitten puppy trout salmon eel crab seal whale dolphin"
)
PETS = _words("goat cat dog pony rabbit duck hen owl parrot turtle mouse lamb goose donkey frog raven")
FOODS = _words(
    "bread cheese butter honey soup stew porridge rice beans peas lentils carrots onions potatoes turnips cabbage spinach "
    "lettuce mushrooms apples pears plums cherries grapes berries figs dates nuts almonds walnuts eggs fish ham bacon "
    "sausage pie cake pudding jam biscuits pancakes noodles dumplings salad tea coffee milk cider juice pepper garlic"
)
DISHES = _words(
    "soup stew porridge pancakes dumplings noodles cheese honey plums cherries pie cake bread figs salad rice"
)
INSTRUMENTS = _words("flute drum fiddle harp lute horn piano guitar trumpet whistle bell zither cello organ pipe banjo")
TRADES = _words(
    "baker miller smith tailor weaver potter carpenter farmer fisher painter teacher doctor sailor gardener printer mason"
)
SHOP_TRADES = _words("baker smith tailor potter carpenter gardener printer weaver")
REGIONS = _words("Northmoor Eastvale Southmark Westfen Highfell Lowmere")
RIVERS = _words("Ansel Brack Corrin Dellow Esker Farrow Gild Hallow")
PLACE_KINDS = _words("village town port city hamlet harbour")
PRODUCTS = _words("glass wool salt silk paper iron pottery cider timber rope candles lace")
MATERIALS = _words("wood iron copper glass stone clay brass paper leather wool tin silk")
OBJECTS = _words(
    "lamp key map rope basket bucket ladder hammer kettle blanket boat cart wheel bell book letter ring coin cup plate "
    "spoon knife box chest mirror candle clock bag hat coat boot glove scarf ribbon button needle thread brush broom "
    "shovel rake saw axe nail hook net sail oar anchor lantern stool chair table bed shelf door window gate fence bridge "
    "kite ball doll drum pipe whistle stone shell feather leaf flower seed branch log barrel jar bottle pot pan oven "
    "bench flag tent pillow curtain carpet puzzle compass telescope notebook pencil"
)
GOODS = _words(
    "loaf bun tart pie hammer nail lock hinge coat scarf shirt cap bowl jug cup vase chair stool table shelf rose seed "
    "bulb fern book map card poster rug shawl blanket ribbon"
)
SHOP_GOODS = {
    "baker": _words("loaf bun tart pie"), "smith": _words("hammer nail lock hinge"), "tailor": _words("coat scarf shirt cap"),
    "potter": _words("bowl jug cup vase"), "carpenter": _words("chair stool table shelf"),
    "gardener": _words("rose seed bulb fern"), "printer": _words("book map card poster"),
    "weaver": _words("rug shawl blanket ribbon"),
}  # fmt: skip
ADJECTIVES = _words(
    "brave clever gentle quiet proud lazy kind honest stubborn curious careful cheerful patient nervous hungry sleepy "
    "lonely grumpy polite bold shy wise silly noisy tidy clumsy friendly generous jealous loyal merry modest old young "
    "tall small round narrow wide deep shallow warm cold dry wet bright dark heavy light soft rough smooth sharp dull "
    "clean dusty muddy shiny broken empty full new strange simple sweet sour bitter salty fresh stale rare common cheap "
    "costly strong weak quick slow early late loud silent hidden open golden wooden tiny huge plain fine crooked steep"
)
ADVERBS = _words(
    "slowly quickly quietly loudly carefully gladly sadly suddenly gently bravely eagerly calmly proudly softly kindly "
    "warmly badly nearly hardly often seldom always never soon later again together alone everywhere nowhere somehow "
    "outside inside upstairs downstairs indeed perhaps almost finally certainly secretly politely patiently happily"
)
EMOTIONS = _words(
    "happy sad angry afraid proud tired glad worried calm excited bored ashamed grateful hopeful surprised puzzled "
    "relieved restless content homesick"
)
WEATHER = _words("rain snow wind fog frost thunder sunshine hail drizzle mist heat storm clouds lightning breeze sleet")
PLANTS = _words(
    "oak elm ash birch willow pine maple rose lily daisy poppy violet tulip ivy fern moss clover thistle nettle mint thyme "
    "sage basil rosemary lavender barley wheat oats rye corn"
)
BODY = _words(
    "hand arm foot leg knee head ear eye nose mouth finger thumb shoulder back heart hair chin cheek elbow neck"
)
ROOMS = _words("kitchen cellar attic hall parlour stable barn workshop garden yard porch pantry library tower office")
PLACES_NEAR = _words(
    "river hill forest meadow market harbour mill church school square well road field lake shore valley orchard cave "
    "marsh island inn tavern bakery forge quarry pond spring crossroads lighthouse vineyard pasture"
)
KIN = _words(
    "mother father sister brother aunt uncle cousin grandmother grandfather neighbour nephew niece daughter son"
)
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")
VERBS = tuple(
    tuple(entry.split("/"))
    for entry in _words(
        "walk/walked/walking carry/carried/carrying open/opened/opening close/closed/closing mend/mended/mending "
        "find/found/finding lose/lost/losing make/made/making bring/brought/bringing sell/sold/selling buy/bought/buying "
        "paint/painted/painting build/built/building clean/cleaned/cleaning cook/cooked/cooking bake/baked/baking "
        "plant/planted/planting water/watered/watering feed/fed/feeding chase/chased/chasing catch/caught/catching "
        "throw/threw/throwing climb/climbed/climbing jump/jumped/jumping run/ran/running swim/swam/swimming "
        "sing/sang/singing dance/danced/dancing laugh/laughed/laughing cry/cried/crying whisper/whispered/whispering "
        "shout/shouted/shouting ask/asked/asking answer/answered/answering tell/told/telling write/wrote/writing "
        "read/read/reading draw/drew/drawing count/counted/counting measure/measured/measuring cut/cut/cutting "
        "tie/tied/tying push/pushed/pushing pull/pulled/pulling lift/lifted/lifting drop/dropped/dropping "
        "hide/hid/hiding seek/sought/seeking watch/watched/watching listen/listened/listening wait/waited/waiting "
        "sleep/slept/sleeping wake/woke/waking dream/dreamt/dreaming hope/hoped/hoping wish/wished/wishing "
        "help/helped/helping thank/thanked/thanking greet/greeted/greeting visit/visited/visiting leave/left/leaving "
        "return/returned/returning travel/travelled/travelling sail/sailed/sailing row/rowed/rowing ride/rode/riding "
        "polish/polished/polishing sharpen/sharpened/sharpening wrap/wrapped/wrapping borrow/borrowed/borrowing "
        "lend/lent/lending share/shared/sharing promise/promised/promising forget/forgot/forgetting "
        "remember/remembered/remembering choose/chose/choosing try/tried/trying fail/failed/failing "
        "win/won/winning repair/repaired/repairing gather/gathered/gathering collect/collected/collecting "
        "sweep/swept/sweeping wash/washed/washing stir/stirred/stirring pour/poured/pouring taste/tasted/tasting "
        "smell/smelled/smelling touch/touched/touching hold/held/holding keep/kept/keeping weave/wove/weaving "
        "sew/sewed/sewing knit/knitted/knitting dig/dug/digging harvest/harvested/harvesting"
    )
)
# Everyday words for spelling and counting letters, beside the lists above.
SHORT_WORDS = tuple(
    sorted(
        w for w in {*ANIMALS, *FOODS, *OBJECTS, *ADJECTIVES, *PLANTS, *BODY, *ROOMS, *PLACES_NEAR} if 3 <= len(w) <= 7
    )
)
