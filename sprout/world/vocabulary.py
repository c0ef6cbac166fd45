"""The larger vocabulary: words that documents use now and then, beside the everyday ones of `lexicon.py`.

Forms are made by rule (plural, past, -ing, -ly), so that only regular words stand here. Skills never ask about them: a
small model meets them as people meet rare words, by reading.
"""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ADJECTIVES, ADVERBS, OBJECTS, VERBS

RARE = 0.25  # share of the slots of a document that are filled from here

NOUNS = tuple(
    """abacus album alcove almanac altar amulet anvil apron arch archive armchair arrow awning badge bagpipe balcony
    banister banner barge barometer barrow basin bassoon beacon beaker beehive bellow belt bib bicycle billboard binder blade
    blazer bolt bonfire bonnet bookcase boulder bouquet bracelet bracket brazier brick bridle buckle bugle bumper
    bunk buoy burner bust cabin cabinet cable cage calendar camera canal candlestick canister cannon canoe canopy canvas
    cape capsule caravan carriage cartwheel carving casket cauldron cavern ceiling chandelier chapel
    chariot charm chart chimney chisel chord churn cistern clamp clarinet clasp cliff cloak cloister coaster cobweb
    coffin coil collar column comb contract cooker corset costume cottage couch counter courtyard cradle crane crate
    crayon crest crib crown crucible crutch crystal cupboard cymbal dagger dam dart dashboard deck decanter desk diagram
    dial diamond diary dinghy diploma dock document dome doorstep doorway dovecote drain drawer dresser drill dungeon
    dustbin easel emblem emerald engine engraving envelope essay fabric facade farmhouse faucet ferry
    figurine file filter fireplace fishbone flagpole flagstone flask fleece folder footpath footstool fork fort
    fossil fountain frame freezer fresco fridge frigate fringe funnel furnace gadget gallery galley garland garment garret
    gauge gavel gazebo gear gemstone gift girdle glacier globe goblet gong gown grater grill grindstone
    gutter hallway halter hamper hammock handcart handle handrail harness harpoon hatch hearth hedge helmet hinge
    hive hoe hood hoop hornpipe horseshoe hourglass hut iceberg icon igloo ingot inkwell invoice jacket
    jersey jewel jigsaw journal jug kennel kerchief keyhole kiln kiosk knapsack knob label lagoon landmark lane lasso
    latch lathe lawn leash ledger legend lens lever lid lighter limerick liner lining lobby locket locomotive lodge
    loft loom lever lullaby lyric magnet mallet manor mansion mantle manual manuscript mast mat
    mattress maypole maze medal medallion menu metronome microscope milestone mineral mitten moat mobile model
    monastery monument mortar mosaic motor mound mug mural muzzle napkin necklace nest newspaper niche nightgown
    nozzle nugget obelisk oboe ocarina ointment orb ornament outpost oval overcoat oyster package padlock pageant pail
    painting palace palette pamphlet panel parade parasol parcel parchment passage passport paste pastry patch
    pavement pavilion pebble pedal pedestal peg pendant pendulum pennant perfume periscope petal petition photograph
    piccolo pillar pin pinwheel pipeline pitcher pitchfork placard plank planter plaque platform
    platter plinth plough plug plume pocket podium poem pole portrait postcard potion pouch prism projector
    propeller prop proverb pulley pulpit pump puppet purse quarter quay quill quilt quiver rack radiator radio raft rafter
    railing railway rampart ramp rattle ravine razor recipe record reel reef refuge register relic rhyme riddle rim
    ripple robe rocket roof rosette rowboat rudder rug rune rucksack ruin saddle sack sandal satchel saucer
    scabbard scaffold scale scarecrow scene sceptre scooter scraper screen screw scroll sculpture scythe seal seam
    sewer shack shackle shaft shed shelter shield shingle shipyard shoelace shop shore shrine shutter sickle sieve signal
    signpost siren skate sketch ski skillet sled sleeve sleigh slipper slope smock snowball snowflake sock sofa
    sonnet spade spear spindle spinet spire sponge spool spout spring sprinkler stable stack stage staircase stamp
    stapler statue steeple stencil stereo stern stilt stirrup stocking stopwatch stove strainer straw stream streamer
    string suit suitcase sundial sunshade swing switch sword symbol tablet tablecloth tambourine tank tapestry
    target tassel teapot temple terrace textbook thermometer thicket thimble thorn throne ticket tile tiller timetable
    token tombstone torch totem tower trailer train tram trap trapdoor tray treasure treaty trellis trench
    triangle tricycle trinket tripod trolley trophy trough trowel truck trunk tub tunic tunnel turban
    turbine turret tweezer typewriter umbrella uniform urn vacuum valve vault veil vessel vest viaduct viola violin visor
    volume voucher wagon waistcoat wallet wallpaper wand ward wardrobe warehouse washboard waterfall watermill weathervane
    wedge weight whisk whirlpool wick wicket wigwam windmill windowsill winch wing wire workbench wreath wrench wrapper
    xylophone yacht yoke yurt zeppelin zipper""".split()
)
# Regular verbs that take a thing as their object.
DEEDS = tuple(
    """abandon accept adjust admire adore aim alter anchor announce arrange assemble attach auction award balance
    bandage bargain barricade beautify bless blow-dry boil bolster brandish brighten brush bundle calculate capture carve
    celebrate challenge change charge check cherish claim clasp classify clutch collide-with comb command compare
    complain-about complete conceal confiscate connect consider construct consult contemplate copy correct counterfeit cover
    crack crate crease create criticise crush cultivate cure damage dangle decorate defend deliver demand demolish deposit
    describe deserve design desire destroy detach detect dictate dislike dismantle display disturb divide donate doubt
    drag drain drape dust dye earn elevate embrace embroider empty enclose endorse engrave enjoy enlarge
    examine exchange exhibit expect explain explore expose fasten favour fetch file fill finish flatten flick fling-away
    fold follow frame furnish gild glaze glimpse glue grab grasp grease guard guess handle hammer haul heat hoist
    hurl ignore illustrate imagine imitate import improve inherit inspect install insure invent inspire investigate iron
    isolate kick kiss label launch lick load locate lock lower lubricate mark mention miss model modify mount move nail
    name need neglect notice number obtain offer oil operate overhaul overlook own pack pad patch
    pawn peel permit photograph pick pin pinch place plunder poke possess post praise prefer prepare present preserve
    price print prize procure protect prove publish puncture purchase puzzle-over question raise rattle reach
    rebuild-and-paint recall receive recognise recommend recover recycle refuse register reject release remove rename
    renovate rent replace report request rescue reserve restore retrieve reveal reward ridicule rinse roast rob roll rotate
    rub ruin salvage sample sand save scan scour scrape scratch scrub search seize select sever shatter shape
    shield shift sketch skip smash smear smoke smuggle sniff soak solder sort splash split-and-stack spot spray
    squash squeeze stain stamp steer stitch store strap strengthen stretch strip stroke stuff support surround suspect suspend
    swap swallow switch tackle tag tap target test tickle tilt toss trace trade trail transport trap treasure treat trim trust
    tug tune turn twirl twist uncover unearth unfasten unfold unload unlock unpack untangle unveil unwrap use value
    varnish waste wax weigh welcome whip whirl wipe withhold-and-return wiggle worship wrinkle yank""".split()
)
QUALITIES = tuple(
    """abrupt absurd accurate active actual adequate agile alert ample ancient anonymous apparent ardent arrogant astute
    austere authentic awkward bashful beautiful bitter-sweet bizarre bleak blissful blunt bold-faced boundless brazen
    brilliant brisk brutal candid casual cautious ceaseless certain charitable charming chaotic classic coarse cold-hearted
    colourful comic compact complete confident conscious constant content cordial correct courageous courteous covert
    craven crisp crucial crude cunning cynical dainty daring decent decisive defiant delicate delicious delightful
    dense desperate devout different diligent dim diplomatic direct discreet dismal distant divine docile doubtful dramatic
    drastic dreadful dutiful eager earnest eccentric efficient elaborate elegant eloquent eminent endless enormous
    entire erratic eternal evident exact excessive exotic expert explicit exquisite extreme fabulous faint faithful famous
    fanciful fearless feeble ferocious fervent festive fierce final firm flawless flexible fluent foolish forceful
    formal fragile frank frantic frequent frivolous frugal furious futile gallant generous-minded genuine gigantic glamorous
    glorious graceful gracious gradual grand grateful grave greedy grim gruesome habitual handsome haphazard harmful
    harmless harsh hasty hateful haughty hazardous heroic hesitant hideous historic hollow honourable hopeful hopeless
    horrid hostile humble humorous ideal idle illegal immense imperfect impatient impolite important impressive impulsive
    incredible indirect inexpert infinite informal ingenious innocent insane insolent intense intricate invisible ironic
    irregular jealous-hearted jovial joyful joyous jubilant just keen laborious lavish lawful lean legal legendary
    lenient lethal lifeless literal local lofty logical ludicrous luminous luxurious magical magnificent majestic malicious
    marvellous massive meagre medieval melodious memorable menacing merciful meticulous mighty mindful minute miraculous
    miserable misty moderate monstrous moral mournful mute mutual mysterious mystical naive nasty native natural
    needless nimble noble nocturnal normal notable numerous obedient obscure obvious odd official ominous opaque opulent
    ordinary original ornate outrageous painful painless pale passionate passive peaceful peculiar perfect permanent
    perpetual persistent personal pitiful placid playful pleasant plentiful poetic pompous popular precious precise
    pretentious previous primitive private profound prominent prompt proper prosperous prudent public punctual pure quaint
    queer random rapid rash rational ready reckless regal regular reliable reluctant remarkable remote resolute respectful
    restful restless reverent rich righteous rigid robust romantic rude rural ruthless sacred sane scarce scenic secret
    secure selfish sensible separate serene serious severe shabby shameful shameless sheer shrewd sincere sinister skilful
    sleek slender slight sober solemn solid sombre sophisticated spacious sparse special spectacular spiteful splendid
    spontaneous spotless stable stark stately stealthy stern stiff stormy straight strict stubborn-minded stylish sublime subtle
    sudden sullen sumptuous superb supreme surly swift tactful tame tasteful tedious tender tense thankful thorough
    thoughtful tidy-minded timid tireless torrid tragic tranquil treacherous tremendous triumphant trivial tropical turbulent
    typical ugly ultimate uneven unique universal urban urgent useful useless usual vacant vague vain valiant valid vast
    vehement vibrant vicious victorious vigilant vigorous violent virtuous visible vital vivid vulgar wakeful wary
    watchful wayward wealthy weary weird wicked wild wilful wistful witty woeful wonderful worthless worthy wrathful
    youthful zealous zestful""".split()
)
NOUNS = tuple(sorted({w for w in NOUNS if "-" not in w}))
DEEDS = tuple(sorted({w for w in DEEDS if "-" not in w}))
QUALITIES = tuple(sorted({w for w in QUALITIES if "-" not in w}))

# Qualities by what they suit: things, or what is done. All others suit people and animals.
OF_THINGS = tuple(
    """accurate ample ancient anonymous authentic beautiful bizarre bleak brilliant classic coarse colourful comic compact
    complete crisp crude dainty delicate delightful dense different dim dismal distant dreadful elaborate elegant endless
    enormous entire exact exotic exquisite fabulous faint famous fanciful festive final firm flawless flexible fragile genuine
    gigantic glamorous glorious grand grim gruesome handsome harmless hazardous hideous historic hollow horrid ideal immense
    imperfect important impressive incredible ingenious intricate invisible irregular lavish legendary lofty ludicrous
    luminous luxurious magical magnificent majestic marvellous massive medieval melodious memorable minute misty monstrous
    mysterious mystical natural normal notable obscure odd official ominous opaque opulent ordinary original ornate
    outrageous pale peculiar perfect permanent personal plentiful popular precious precise primitive private prominent
    proper public pure quaint queer regal regular reliable remarkable remote rigid robust rural sacred scarce scenic secret
    secure separate shabby sheer sleek slender slight solid sombre sophisticated spacious sparse special spectacular splendid
    spotless stable stark stately stiff straight stylish sublime sumptuous superb tasteful tropical typical ugly uneven
    unique universal urban useful useless usual vacant valid vast vibrant visible vivid weird wonderful worthless""".split()
)
OF_ACTS = tuple(
    """abrupt actual adequate apparent certain constant correct crucial decisive delicious direct doubtful drastic eternal
    evident excessive explicit extreme frequent futile gradual habitual haphazard illegal indirect infinite informal intense
    just laborious legal lethal literal local logical moderate moral mutual needless numerous obvious painful painless
    perpetual previous profound prompt random rapid sudden supreme tedious torrid trivial turbulent ultimate urgent
    vital""".split()
)
OF_BEINGS = tuple(q for q in QUALITIES if q not in {*OF_THINGS, *OF_ACTS})
THINGLY = frozenset(
    "round narrow wide deep shallow warm cold dry wet bright dark heavy light soft rough smooth sharp dull clean dusty muddy "
    "shiny broken empty full new simple sweet sour bitter salty fresh stale rare common cheap costly hidden open golden "
    "wooden plain fine crooked steep".split()
)
EITHER = frozenset("old small strong weak strange tiny huge slow quick".split())
TASTES = frozenset("sweet sour bitter salty fresh stale".split())
EVERYDAY_OF_THINGS = tuple(q for q in ADJECTIVES if q in (THINGLY | EITHER) - TASTES)
EVERYDAY_OF_BEINGS = tuple(q for q in ADJECTIVES if q not in THINGLY)
# Adverbs that say how or where, and so may end a sentence or open one; the others only stand before a verb.
BEFORE_VERBS = tuple(w for w in ADVERBS if w in {"nearly", "often", "seldom", "always", "never", "almost", "finally", "certainly"})
MANNERS = tuple(w for w in ADVERBS if w not in {*BEFORE_VERBS, "hardly", "indeed", "perhaps", "somehow", "nowhere", "together",
                                                "badly", "later", "again", "soon"})  # fmt: skip

# The everyday verbs, by whether they take an object.
ALONE = frozenset(
    "walk climb jump run swim sing dance laugh cry whisper shout listen wait sleep wake dream hope wish return travel sail "
    "row try fail win".split()
)
INTRANSITIVE = tuple(v for v in VERBS if v[0] in ALONE)
# Verbs that only go with certain things: one feeds hens and not a ladder.
ERRANDS = {
    verb: tuple(objects.split())
    for verb, objects in {
        "cook": "stew porridge rice beans eggs fish dumplings noodles", "bake": "bread cake pie biscuits buns",
        "plant": "roses beans carrots tulips onions oak lilies", "water": "roses beans tulips garden lilies cabbages daisies",
        "feed": "hens goat pigs ducks kittens donkey lambs", "chase": "hens fox mouse pigeons crows rabbit cat",
        "catch": "trout salmon eel frog moth crab mouse", "write": "letter poem list diary notice story",
        "read": "letter poem newspaper book almanac notice", "draw": "map portrait lighthouse picture horse",
        "sharpen": "knife axe saw pencil needle scythe", "sweep": "kitchen hall yard porch stable attic workshop",
        "stir": "soup stew porridge paint", "pour": "tea milk cider juice coffee", "taste": "soup cheese honey jam cherries",
        "smell": "roses bread coffee rosemary lavender smoke", "ride": "pony horse donkey mule", "weave": "rug blanket basket carpet",
        "sew": "shirt coat curtain sail", "knit": "scarf shawl blanket cap", "dig": "garden well ditch field",
        "harvest": "barley wheat oats rye corn potatoes", "visit": "miller doctor market teacher church neighbours",
        "build": "shed boat wall barn bench", "make": "jam cheese basket soup list", "promise": "money prize answer",
        "count": "coins hens sheep stars eggs", "measure": "cloth floor flour window",
    }.items()
}  # fmt: skip
TRANSITIVE = tuple(v for v in VERBS if v[0] not in ALONE | {"ask", "answer", "thank", "greet", "tell", "help"})
HANDLING = tuple(v for v in TRANSITIVE if v[0] not in ERRANDS)  # what can be done to almost anything
WITH_OBJECT = tuple(v for v in TRANSITIVE if v[0] in ERRANDS)
# Things too large to hold; one can hide something under or behind them.
LARGE = tuple("bed table bench bridge cart boat stool carpet log barrel tent chair fence gate ladder oven shelf".split())
HELD = tuple(o for o in OBJECTS if o not in {*LARGE, "door", "window", "curtain", "sail"})

VOWELS = "aeiou"
IRREGULAR = {"shelf": "shelves", "knife": "knives", "leaf": "leaves", "scarf": "scarves"}
# A last consonant after one stressed vowel (and an l after any) is doubled: 'grab', 'grabbed'.
DOUBLED = frozenset(
    "clap drag drop fit grab hop knit mop nod pad pat pin plan plug rob rub scan scrub skip slip snap spot stop strap strip "
    "stir swap tag tap trap trim trot tug wrap unwrap whip permit prefer label model worship".split()
)


def plural(noun: str) -> str:
    """'torch' becomes 'torches', 'canopy' 'canopies', 'raft' 'rafts', 'shelf' 'shelves'."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "sh", "ch", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def past(verb: str) -> str:
    """'carve' becomes 'carved', 'copy' 'copied', 'grab' 'grabbed', 'load' 'loaded'."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in DOUBLED else "") + "ed"


def going_on(verb: str) -> str:
    """'carve' becomes 'carving', 'grab' 'grabbing', 'load' 'loading'."""
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if verb in DOUBLED else "") + "ing"


def manner(adjective: str) -> str:
    """The adverb: 'happy' becomes 'happily', 'noble' 'nobly', 'pale' 'palely', 'tragic' 'tragically', 'full' 'fully'."""
    if adjective.endswith("y"):
        return adjective[:-1] + "ily"
    if adjective.endswith("le") and adjective[-3] not in VOWELS:
        return adjective[:-1] + "y"
    if adjective.endswith("ic"):
        return adjective + ("ly" if adjective == "public" else "ally")
    return adjective + ("y" if adjective.endswith("ll") else "ly")


SHOWN_BY_ACTS = tuple(q for q in (*OF_BEINGS, *OF_ACTS) if not q.endswith("ly"))  # 'surlily' is no word to learn


def thing(dice: Dice) -> str:
    """A thing, singular."""
    return dice.pick(NOUNS if dice.chance(RARE) else OBJECTS)


def things(dice: Dice) -> str:
    """The same in the plural."""
    return plural(thing(dice))


def held(dice: Dice) -> str:
    """A thing that one can hold, lose, find and give away."""
    return dice.pick(HELD)


def deed(dice: Dice) -> str:
    """A verb for what can be done to almost any thing, in the past tense."""
    return past(dice.pick(DEEDS)) if dice.chance(RARE) else dice.pick(HANDLING)[1]


def task(dice: Dice) -> tuple[str, str, str]:
    """What somebody does, did and is doing: ('mend the net', 'mended the net', 'mending the net')."""
    if dice.chance(0.3):
        verb = dice.pick(WITH_OBJECT)
        what = dice.pick(ERRANDS[verb[0]])
    else:
        plain = dice.pick(DEEDS) if dice.chance(RARE) else ""
        verb = (plain, past(plain), going_on(plain)) if plain else dice.pick(HANDLING)
        what = f"{quality(dice)} {thing(dice)}" if dice.chance(0.3) else thing(dice)
    return f"{verb[0]} the {what}", f"{verb[1]} the {what}", f"{verb[2]} the {what}"


def act(dice: Dice) -> tuple[str, ...]:
    """A verb that stands without an object: plain, past and -ing."""
    return dice.pick(INTRANSITIVE)


def quality(dice: Dice) -> str:
    """An adjective for a thing."""
    return dice.pick(OF_THINGS if dice.chance(RARE) else EVERYDAY_OF_THINGS)


def temper(dice: Dice) -> str:
    """An adjective for somebody, person or animal."""
    return dice.pick(OF_BEINGS if dice.chance(RARE) else EVERYDAY_OF_BEINGS)


def manner_of(dice: Dice) -> str:
    """An adverb that may end a sentence: how, or where."""
    return manner(dice.pick(SHOWN_BY_ACTS)) if dice.chance(RARE) else dice.pick(MANNERS)
