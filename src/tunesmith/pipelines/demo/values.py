"""Values of the demo tickets: names, places, products and small words, each list split in two.

`pool(values, unseen)` gives every fifth value to the unseen templates and the rest to training, so that
no first name, surname or place stem of an unseen-template row occurs in any training row.
Places are made up from a stem and an ending; names are ordinary given names and surnames, combined at random.
"""

from collections.abc import Sequence


def _words(text: str) -> tuple[str, ...]:
    """The words of `text`, in order."""
    return tuple(text.split())


PRODUCTS: tuple[str, ...] = ("kettle", "toaster", "desk lamp", "speaker", "keyboard", "backpack")

ADJECTIVES: tuple[str, ...] = (
    "blue", "black", "white", "green", "grey", "red", "new", "small", "large", "silver",
)  # fmt: skip

OTHER_ITEMS: tuple[str, ...] = (
    "teapot", "phone case", "garden hose", "set of mugs", "picture frame", "bath mat", "wall clock",
    "pair of gloves", "water bottle", "bread knife", "yoga mat", "door handle", "dog lead",
    "pack of batteries", "coat stand", "paint roller",
)  # fmt: skip

FIRST_NAMES: tuple[str, ...] = _words(
    """
    Abel Ada Adam Adela Adrian Agnes Aidan Alan Alba Albert Alec Alex Alfred Alice Alma Alvin Amanda
    Amber Amelia Amir Ana Andrea Andrew Angela Anita Ann Anna Anton April Archie Ariel Arnold Arthur Asa
    Audrey August Aurora Barbara Barry Basil Becky Belinda Bella Ben Benedict Bert Bertha Beth Betty
    Bill Boris Brenda Brian Bruce Bruno Caleb Calvin Camilla Candice Carl Carla Carmen Carol Caspar
    Cathy Cecil Celia Chad Charles Chester Chloe Chris Cindy Claire Clara Claude Cleo Clive Colin Connie
    Conrad Cora Craig Cyril Damon Dan Dana Daphne Darren David Dawn Debra Denise Dennis Derek Diana Dick
    Dina Don Donna Dora Doris Doug Duncan Earl Eddie Edgar Edith Edward Edwin Eileen Elaine Eleanor
    Elena Elise Eliza Elizabeth Ella Elliot Elmer Eloise Elton Elvis Emil Emily Emma Enid Eric Ernest
    Ethan Eugene Eve Evelyn Ezra Faith Fay Fergus Finn Floyd Frances Frank Fred Gail Gareth Gary Gavin
    Gemma George Gerald Gina Gino Glenda Gordon Grace Graham Greg Gwen Hal Hamish Hank Harold Harry
    Hector Heidi Helen Henry Herman Hope Horace Howard Hubert Ian Ida Imogen Ines Ingrid Iris Isla
    Isobel Jack Jade Jake James Jan Jane Janet Jason Jean Jeff Jenny Jerome Jesse Jill Jim Jimmy Joan
    Joel John Jose Joseph Josie Joy Joyce Juan Jude Judith Julia June Justin Kai Kate Kay Keith Kelly
    Ken Kenneth Kevin Kim Kit Kurt Lance Lara Larry Leah Lee Lena Leo Leonard Leroy Leslie Liam Lila
    Lily Linda Linus Lois Lola Lorna Louis Louise Lucy Luis Luke Lydia Lynn Mabel Maggie Malcolm Mandy
    Manuel Margaret Maria Marian Marina Mark Marlon Marta Martin Mary Mason Matt Maud Maureen Mavis Max
    May Mercy Merle Mia Michael Mick Mildred Miles Milo Mina Miranda Moira Molly Mona Morgan Morris
    Muriel Myra Nancy Ned Neil Nell Nick Nigel Nina Noah Noel Nora Noreen Omar Oscar Otto Pablo Pam Pat
    Paul Pearl Penny Percy Perry Peter Petra Phil Philip Phoebe Pierre Piper Polly Priya Prudence Rachel
    Ramona Ray Regina Reuben Rex Rhoda Richard Rick Rita Robert Robin Roger Ron Rory Rosa Rosalind Rose
    Ross Roy Ruby Rudy Rupert Russ Ruth Sally Sam Samson Sandra Sarah Saul Scott Sean Seth Shane Sharon
    Sheila Shirley Sid Silas Simon Sofia Sonia Stan Stefan Stephen Steve Stuart Sue Susan Sven Sylvia
    Tania Ted Teresa Terry Tess Thea Theo Thomas Tim Tina Toby Todd Tom Tony Tracy Travis Trudy Uma Una
    Valerie Vanessa Vernon Victor Vincent Violet Virginia Vivian Wallace Walter Wanda Warren Wayne Wendy
    Wesley Will William Wilma Xavier Yara Zach Zara Zoe Zora
    """
)

SURNAMES: tuple[str, ...] = _words(
    """
    Abel Acton Adair Adler Ainsley Aldous Allen Alston Amos Anders Archer Arden Arnold Ashby Atkins
    Austin Avery Baker Ball Banks Bannister Barber Barker Barlow Barnes Barrett Barry Bass Bates Bean
    Beck Bell Bird Bishop Black Blake Bond Boone Booth Boyd Bragg Brand Bray Brent Bridges Brock Brook
    Brown Bruce Buck Bull Burke Burns Burton Bush Butler Byrd Cain Camp Cannon Carr Carter Carver Case
    Cash Castle Chance Chase Church Clark Clay Cliff Cobb Cole Coleman Collier Conway Cook Cooper Cope
    Corbin Cotton Court Cowan Craft Craig Crane Crawford Croft Cross Crow Cullen Dale Dane Darby
    Davenport Davis Day Deacon Dean Dell Denton Dickens Dobson Dodd Dorsey Dove Downs Doyle Drake Dudley
    Duffy Duke Duncan Dyer Earl East Easton Eden Edge Elder Elliott Ellis Emery English Evans Fair Falk
    Fane Farmer Farrow Fay Felton Fenn Fern Field Finch Fisher Fitch Flint Flood Flynn Foley Forbes Ford
    Forest Forster Foss Foster Fowler Fox French Fry Gale Garland Garner Gates Gentry Gill Glass Glenn
    Glover Gold Goodman Goodwin Gore Gould Grady Grant Gray Green Greene Griggs Grove Guest Guthrie Hale
    Hall Hammond Harding Harmon Harper Harris Hart Harvey Hatch Head Heath Herd Hewitt Hicks Hobbs Hodge
    Hogan Holt Hood Hooper Hope Horn House Howard Howell Hull Hume Humphrey Hunter Hurst Hutton Hyde
    Ingram Irwin Ives Jackson James Jennings Johnson Jones Jordan Joyce Judd Keen Kelly Kent Kerr Kidd
    King Kirk Knight Knowles Lacey Lake Lamb Landry Lane Larch Law Lawson Leach Lee Lester Levy Light
    Lincoln Little Locke Logan Long Lord Love Lucas Lynch Lyon Mabry Mack Maddox Maine Mann March Marlow
    Marsh Marshall Mason Maxwell May Mayer Mead Meadows Melton Merritt Miller Mills Minor Monk Montague
    Moon Moore Morgan Morris Moss Mott Mullen Munro Nash Neal Nelson Newman Newton Noble Noon North
    Oakes Olsen Orr Otis Overton Owens Page Paine Palmer Park Parker Parrish Patton Pearce Peel Penn
    Perkins Perry Petty Phelps Pierce Pike Pitt Plum Pond Pool Pope Porter Powell Pratt Price Proctor
    Pugh Quick Quill Quinn Ramsey Rand Randall Raven Ray Redmond Reed Rees Reid Rice Rich Riddle Riggs
    Rivers Roche Rock Root Rose Ross Rush Salter Sampson Sanders Savage Scott Seymour Shaw Shelton
    Shields Short Silver Simms Singer Skinner Slater Sloan Small Smith Snow Spear Speight Stafford Stark
    Starr Stein Stern Stewart Still Stone Storm Strong Stroud Summers Swann Swift Sykes Tate Taylor
    Temple Thatcher Thomas Thorne Tilly Travis Trent Tripp Troy Turner Tyler Upton Valentine Vance
    Vaughn Vickers Vine Wade Walker Wall Walsh Walton Ward Warner Warren Weaver Webb Welch Wells West
    White Wiley Winter Wise Wolfe Wood Woods Wright Wyatt Yates York Young
    """
)

PLACE_STEMS: tuple[str, ...] = _words(
    """
    Abbey Acorn Alder Almond Amber Anchor Angel Antler Apple Apricot Arch Arrow Ash Aspen Autumn Baker
    Banner Barley Barn Basket Beacon Bean Bear Beaver Beech Bell Berry Bird Bishop Black Blossom Blue
    Boar Bone Bottle Bow Branch Brass Bread Brewer Briar Brick Bright Broad Broken Bronze Broom Brown
    Buck Bull Butter Button Cage Candle Canon Carrot Cart Castle Cat Cattle Cedar Chain Chalk Chapel
    Charcoal Cherry Chestnut Child Circle Clay Clear Cloud Clover Coach Coal Coast Cold Cook Copper
    Coral Cork Corn Cotton Cow Cradle Crane Cream Crescent Cricket Crooked Crow Crown Cup Curlew Dark
    Dawn Deep Deer Desert Diamond Doctor Dog Donkey Double Dove Dragon Drift Drum Dry Duck Duke Dusk
    Eagle East Ebony Echo Eel Egg Elder Elm Ember Emerald Evening Fair Falcon Falling Far Farmer Feather
    Fern Fiddle Fig Finch Fire First Fish Fisher Five Flag Flat Fleet Flint Flour Flower Foggy Forest
    Forge Fork Four Fox Frog Frost Garden Garlic Gate Giant Ginger Glass Glen Goat Gold Good Goose Grain
    Grand Granite Grape Grass Gravel Great Grey Guard Gull Hammer Happy Hare Harp Harvest Hat Hawk Hay
    Head Heather Hedge Hermit Heron Hidden High Hollow Holly Home Honey Hook Hope Horn Horse Hound
    Hunter Ice Inner Iron Jade Jasper Jewel Joy Kettle Key King Kite Kitten Knight Lace Ladder Lady Lake
    Lamb Lamp Lantern Lark Last Laurel Lavender Lead Leaf Lemon Light Lilac Lime Linen Lion Little
    Lobster Lock Lonely Long Lost Lower Lucky Magpie Maiden Mallow Mango Maple Marble Market Marsh Mary
    Mason May Meadow Merchant Mercy Middle Mill Mint Mirror Misty Mole Monk Monkey Moon Moor Morning
    Moss Mountain Mouse Mud Music Mustard Narrow Needle Nest Nettle New Night Noble Noon North Nut Oak
    Oat Ocean Old Olive Onion Opal Orange Orchard Otter Outer Over Owl Ox Oyster Paddle Palm Paper Park
    Parson Peach Pear Pebble Penny Pepper Pine Pipe Plain Plum Poplar Poppy Potter Prince Quail Queen
    Quiet Rabbit Ragged Rain Rainbow Ram Raven Red Reed Ribbon Rich Ring River Rock Rook Rope Rose Round
    Royal Ruby Rush Russet Sable Saddle Saffron Sail Sailor Saint Salmon Salt Sand Scarlet School Sea
    Seal Second Seven Shadow Shallow Sharp Sheep Shell Ship Short Silent Silver Six Sky Sleepy Small
    Smith Smoke Snake Snow Soft Soldier Song Sorrel South Sparrow Spice Spider Spring Spruce Squirrel
    Stable Stag Star Starling Steel Steep Still Stone Stork Storm Straw Strong Sugar Summer Sun Sunny
    Swan Sweet Swift Tailor Tall Tar Tea Temple Ten Thick Thin Third Thorn Three Thunder Tide Tiger
    Timber Tin Tower Trout Turtle Twelve Twin Two Under Upper Vine Violet Walnut Warm Watch Water Wax
    Weaver Wedding West Wet Whale Wheat Whistle White Wide Widow Wild Willow Wind Window Winter Wise
    Wolf Wooden Wool Wren Yarrow Yellow York Young
    """
)

PLACE_ENDINGS: tuple[str, ...] = (
    "Hill", "Bay", "Green", "Heath", "Cross", "Field", "Bridge", "Church", "Valley", "Wood", "Harbour",
    "Ford",
)  # fmt: skip

_SPLIT = 5
"""One value in five is kept for the unseen templates."""


def pool(values: Sequence[str], unseen: bool) -> list[str]:
    """The share of `values` that rows of unseen templates (or all other rows) draw from."""
    return [value for index, value in enumerate(values) if (index % _SPLIT == _SPLIT - 1) == unseen]
