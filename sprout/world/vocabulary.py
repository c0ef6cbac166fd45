"""The larger vocabulary: words that documents use now and then, beside the everyday ones of `lexicon.py`.

Forms are made by rule (plural, past, -ing, -ly), so that only regular words stand here. Skills never ask about them: a
small model meets them as people meet rare words, by reading.
"""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ADJECTIVES, ADVERBS, OBJECTS, VERBS

RARE = 0.2  # share of the slots of a document that are filled from here

NOUNS = tuple(
    """abacus album alcove almanac altar amulet anvil apron arch archive armchair arrow awning badge bagpipe balcony
    banister banner barge barometer barrow basin bassoon beacon beaker beehive bellow belt bib bicycle billboard binder blade
    blazer bolt bonfire bonnet bookcase boulder bouquet bracelet bracket brazier brick bridle bronze buckle bugle bumper
    bunk buoy burner bust cabin cabinet cable cage calendar camera canal candlestick canister cannon canoe canopy canvas
    cape capsule caravan cardboard carriage cartwheel carving casket cauldron cavern ceiling cellist chandelier chapel
    chariot charm chart chimney chisel chord churn cistern clamp clarinet clasp cliff cloak cloister coaster cobweb
    coffin coil collar column comb contract cooker corset costume cottage couch counter courtyard cradle crane crate
    crayon crest crib crown crucible crutch crystal cupboard cymbal dagger dam dart dashboard deck decanter desk diagram
    dial diamond diary dinghy diploma dock document dome doorstep doorway dovecote drain drawer dresser drill dungeon
    dustbin easel emblem emerald engine engraving envelope essay fabric facade falconry farmhouse faucet ferry fiddlestick
    figurine file filter fireplace fishbone flagpole flagstone flask fleece flint folder footpath footstool fork fort
    fossil fountain frame freezer fresco fridge frigate fringe funnel furnace gadget gallery galley garland garment garret
    gauge gavel gazebo gear gemstone gift girdle glacier globe goblet gong gown grater gravel grill grindstone grocery
    gutter hallway halter hamper hammock handcart handle handrail harness harpoon hatch hearth hedge helmet hinge
    hive hoe hood hoop hornpipe horseshoe hourglass hut iceberg icon igloo incense ingot inkwell invoice ironwork jacket
    jersey jewel jigsaw journal jug kennel kerchief keyhole kiln kiosk knapsack knob label lace lagoon landmark lane lasso
    latch lathe lawn leash ledger legend lens lever lid lighter limerick liner lining litter lobby locket locomotive lodge
    loft loom lever lounge lullaby lyric magnet mallet manor mansion mantle manual manuscript marble mast mat
    mattress maypole maze meadowland medal medallion menu metronome microscope milestone mineral mitten moat mobile model
    monastery monument mortar mosaic motor mound mug mural muzzle napkin necklace nest newspaper niche nightgown noose
    nozzle nugget obelisk oboe ocarina ointment orb ornament outpost oval overcoat oyster package padlock pageant pail
    painting palace palette pamphlet panel pantaloon parade parasol parcel parchment passage passport paste pastry patch
    pavement pavilion pebble pedal pedestal peg pendant pendulum pennant perfume periscope petal petition photograph
    piccolo pigment pillar pin pinwheel pipeline pistol pitcher pitchfork placard plank planter plaque plaster platform
    platter plinth plough plug plume pocket podium poem pole portrait postcard potion pouch powder prism projector
    propeller prop proverb pulley pulpit pump puppet purse quarter quay quill quilt quiver rack radiator radio raft rafter
    railing railway rampart ramp rattle ravine razor recipe record reel reef refuge register relic rhyme riddle rim
    ripple robe rocket roof rosette rowboat rudder rug rune rucksack ruin saddle sack sandal satchel saucer sausage
    scabbard scaffold scale scarecrow scene sceptre scooter scraper screen screw scroll sculpture scythe seal seam
    sewer shack shackle shaft shed shelter shield shingle shipyard shoelace shop shore shrine shutter sickle sieve signal
    signpost siren skate sketch ski skillet sled sleeve sleigh slipper slope smock snare snowball snowflake sock sofa
    sonnet spade spear spindle spinet spire sponge spool spout spring sprinkler stable stack stage staircase stamp
    stapler statue steeple stencil stereo stern stilt stirrup stocking stopwatch stove strainer straw stream streamer
    string suit suitcase sundial sunshade swing switch sword symbol syringe tablet tablecloth tambourine tank tapestry
    target tassel teapot temple terrace textbook thermometer thicket thimble thorn throne ticket tile tiller timetable
    token tombstone tongs torch totem tower trailer train tram trap trapdoor tray treadmill treasure treaty trellis trench
    triangle tricycle trinket tripod trolley trophy trough trousseau trowel truck trunk tub tulle tunic tunnel turban
    turbine turret tweezer typewriter umbrella uniform urn vacuum valve vault veil vessel vest viaduct viola violin visor
    volume voucher wagon waistcoat wallet wallpaper wand ward wardrobe warehouse washboard waterfall watermill weathervane
    wedge weight whisk whirlpool wick wicket wigwam windmill windowsill winch wing wire workbench wreath wrench wrapper
    xylophone yacht yarn yoke yurt zeppelin zipper""".split()
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

# The everyday verbs, by whether they take an object.
ALONE = frozenset(
    "walk climb jump run swim sing dance laugh cry whisper shout listen wait sleep wake dream hope wish return travel sail "
    "row try fail win".split()
)
INTRANSITIVE = tuple(v for v in VERBS if v[0] in ALONE)
TRANSITIVE = tuple(v for v in VERBS if v[0] not in ALONE | {"ask", "answer", "thank", "greet", "tell", "help"})

VOWELS = "aeiou"
# A last consonant after one stressed vowel is doubled: 'grab', 'grabbed'.
DOUBLED = frozenset(
    "clap drag drop fit grab hop knit mop nod pad pat pin plan plug rob rub scan scrub skip slip snap spot stop strap strip "
    "stir swap tag tap trap trim trot tug wrap whip permit".split()
)


def plural(noun: str) -> str:
    """'torch' becomes 'torches', 'canopy' 'canopies', 'raft' 'rafts'."""
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
    """The adverb: 'happy' becomes 'happily', 'noble' 'nobly', 'tragic' 'tragically', 'full' 'fully'."""
    if adjective.endswith("y"):
        return adjective[:-1] + "ily"
    if adjective.endswith("le"):
        return adjective[:-1] + "y"
    if adjective == "public":
        return "publicly"
    if adjective.endswith("ic"):
        return adjective + "ally"
    return adjective + ("y" if adjective.endswith("ll") else "ly")


def thing(dice: Dice) -> str:
    """A thing one can hold or look at, singular."""
    return dice.pick(NOUNS if dice.chance(RARE) else OBJECTS)


def things(dice: Dice) -> str:
    """The same in the plural."""
    return plural(thing(dice))


def deed(dice: Dice) -> str:
    """A verb for what is done to a thing, in the past tense."""
    return past(dice.pick(DEEDS)) if dice.chance(RARE) else dice.pick(TRANSITIVE)[1]


def deed_now(dice: Dice) -> str:
    """A verb for what is done to a thing, plain."""
    return dice.pick(DEEDS) if dice.chance(RARE) else dice.pick(TRANSITIVE)[0]


def doing(dice: Dice, what: str) -> str:
    """The same as it goes on, with its object: 'mending the net'."""
    verb = going_on(dice.pick(DEEDS)) if dice.chance(RARE) else dice.pick(TRANSITIVE)[2]
    return f"{verb} the {what}"


def act(dice: Dice) -> tuple[str, ...]:
    """A verb that stands without an object: plain, past and -ing."""
    return dice.pick(INTRANSITIVE)


def quality(dice: Dice) -> str:
    """An adjective."""
    return dice.pick(QUALITIES if dice.chance(RARE) else ADJECTIVES)


def manner_of(dice: Dice) -> str:
    """An adverb."""
    return manner(dice.pick(QUALITIES)) if dice.chance(RARE) else dice.pick(ADVERBS)
