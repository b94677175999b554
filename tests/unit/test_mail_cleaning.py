"""What of a mail is its author's own: quotes and signatures in seven languages go, look-alikes stay."""

import pytest

from tunesmith.data.tickets.automated import is_automated
from tunesmith.data.tickets.html import looks_like_html, to_text
from tunesmith.data.tickets.mail import HTML, QUOTE, SIGNATURE, clean

OWN = "The lamp does not work."
INTRODUCTIONS = [
    "On Tue, Mar 5, 2024 at 10:15 AM Shop <help@shop.example> wrote:",
    "On Tue, Mar 5, 2024 at 10:15 AM Shop\n<help@shop.example> wrote:",
    "On 5 Mar 2024, at 10:15, Shop <help@shop.example>\nwrote:",
    "Am 05.03.2024 um 10:15 schrieb Shop <help@shop.example>:",
    "Am Di., 5. März 2024 um 10:15 Uhr schrieb Shop:",
    "Shop <help@shop.example> schrieb am Di., 5. März 2024, 10:15:",
    "Am 05.03.2024 um 10:15 hat Shop geschrieben:",
    "Le mar. 5 mars 2024 à 10:15, Boutique <aide@shop.example> a écrit :",
    "Le 5 mars 2024 à 10h15, Boutique a écrit :",
    "El mar, 5 mar 2024 a las 10:15, Tienda (<ayuda@shop.example>) escribió:",
    "Il giorno mar 5 mar 2024 alle ore 10:15 Negozio <aiuto@shop.example> ha scritto:",
    "Op di 5 mrt 2024 om 10:15 schreef Winkel <help@shop.example>:",
    "Op 5 mrt 2024 om 10:15 heeft Winkel <help@shop.example> het volgende geschreven:",
    "Em ter., 5 de mar. de 2024 às 10:15, Loja <ajuda@shop.example> escreveu:",
    "2024-03-05 10:15 GMT+01:00 Shop <help@shop.example>:",
    "-----Original Message-----",
    "-----Ursprüngliche Nachricht-----",
    "-----Message d'origine-----",
    "-----Mensaje original-----",
    "-----Messaggio originale-----",
    "-----Oorspronkelijk bericht-----",
    "-----Mensagem original-----",
    "##- Please type your reply above this line -##",
    "From: Shop\nSent: Tuesday, 5 March 2024 10:15\nTo: Customer\nSubject: Your lamp",
    "________________\nFrom: Shop <help@shop.example>\nDate: Tuesday\nTo: a@b.example;\n c@d.example\nSubject: Lamp",
    "*From:* Shop\n*Sent:* Tuesday\n*To:* Customer\n*Subject:* Your lamp",
    "Von: Shop\nGesendet: Dienstag\nAn: Kundin\nBetreff: Lampe",
    "De : Boutique\nEnvoyé : mardi\nÀ : Cliente\nObjet : Lampe",
    "De: Tienda\nEnviado el: martes\nPara: Cliente\nAsunto: Lámpara",
    "Da: Negozio\nInviato: martedì\nA: Cliente\nOggetto: Lampada",
    "Van: Winkel\nVerzonden: dinsdag\nAan: Klant\nOnderwerp: Lamp",
    "De: Loja\nEnviada em: terça\nPara: Cliente\nAssunto: Lâmpada",
]


@pytest.mark.parametrize("introduction", INTRODUCTIONS)
def test_what_is_quoted_goes(introduction):
    below = "\n\nHello,\nwhat lamp is it?\nThe shop"
    assert clean(f"{OWN}\n\n{introduction}{below}") == clean(f"{OWN}\n{introduction}{below}")
    cleaned = clean(f"{OWN}\n\n{introduction}{below}")
    assert cleaned.text == OWN
    assert QUOTE in cleaned.taken
    assert clean(f"{introduction}{below}").text == ""


@pytest.mark.parametrize("introduction", [text for text in INTRODUCTIONS if not text.startswith("##")])
def test_answers_under_the_quoted_lines_stay(introduction):
    cleaned = clean(f"Hello\n{introduction}\n\n> which lamp?\n> which colour?\n\nThe red one.\n\n> how many?\nTwo.")
    assert "which" not in cleaned.text
    assert "how many" not in cleaned.text
    assert cleaned.text.split() == ["Hello", "The", "red", "one.", "Two."]


@pytest.mark.parametrize(
    "message",
    [
        "On Monday I wrote: please send it again.",
        "On Monday I wrote:\nPlease send the invoice.\nNobody answered.",
        "On 5 March 2024 at 10:15 I wrote:\nPlease send the invoice.",
        "On 5 March 2024 at 10:15 your colleague wrote:\nThe refund is on its way.",
        "Am 05.03.2024 um 10:15 schrieb mir Frau Holt:\ndas Geld kommt morgen.",
        "Am Montag schrieb ich Ihnen wegen der Lampe. Es fehlt:\nder Fuß.",
        "Le 5 mars à 10:15 votre collègue a écrit :\nle colis part demain.",
        "Op maandag schreef ik dit:\nde lamp is stuk.",
        "Two things:\n- the lamp\n- the bulb\n-- and its box\n--- that is all",
        "First issue\n---\nSecond issue, which is worse.",
        "First the lamp flickers.\n--\nThen the remote control does not pair with it at all any more.",
        "> 5 pieces are missing",
        "The values are\n> 230 V\nand the lamp is dark.",
        "From: Berlin\nTo: Paris\nDate: 3 May\nTwo lamps, please.",
        "Subject: lamp\nFrom: the shop in town\nIt is broken.",
        "Thanks,\nthe lamp works and I would like another one.",
        "Thank you",
        "Many thanks!\nPlease close the ticket.",
        "Best regards to Anna, she helped me well.",
        "Kind regards,\nby the way, the lamp that you sent me yesterday is still broken.",
        "I sent it from my phone company's shop.",
        "Sent from my old flat, the parcel went to the new one.",
        "My name is Mira Holt\nand I live in Berlin.",
        "Regards\nIs the lamp in stock?",
        "---------- Forwarded message ----------\nFrom: Maker\nDate: Monday\nSubject: Recall\n\nThe lamp is recalled.",
        "See below.\n\n---------- Forwarded message ----------\nFrom: Maker\nDate: Monday\nSubject: Recall\n\n> Danger",
        "Original message: the lamp is fine.",
        "if a > b and b > c then\na > c",
    ],
)
def test_look_alikes_stay_as_they_are(message):
    assert clean(message).text == message
    assert clean(message).taken == frozenset()


@pytest.mark.parametrize(
    "signature",
    [
        "-- \nMira Holt\nHigh Street 12",
        "--\nMira Holt",
        "Best regards,\nMira Holt",
        "Kind regards\n\nMira Holt\nHead of Light\nTel.: +49 30 1234\nwww.shop.example",
        "Kind regards, Mira",
        "Sincerely,\nMira Holt",
        "Mit freundlichen Grüßen\nMira Holt\nLicht GmbH | Sitz der Gesellschaft: Berlin | Amtsgericht Berlin HRB 123",
        "Viele Grüße aus Berlin\nMira",
        "LG Mira",
        "MfG\nHolt",
        "Cordialement,\nMira Holt",
        "Bien cordialement\nMira",
        "Un saludo,\nMira Holt",
        "Atentamente,\nMira Holt",
        "Cordiali saluti\nMira Holt",
        "Distinti saluti,\nMira",
        "Met vriendelijke groet,\nMira Holt",
        "Groeten, Mira",
        "Atenciosamente,\nMira Holt",
        "Com os melhores cumprimentos,\nMira",
        "Sent from my iPhone",
        "Von meinem iPhone gesendet",
        "Envoyé de mon iPhone",
        "Enviado desde mi iPhone",
        "Inviato da iPhone",
        "Verstuurd vanaf mijn iPhone",
        "Enviado do meu iPhone",
        "Get Outlook for iOS<https://aka.example/x>",
        "Best regards,\nMira\n\nSent from my Galaxy",
        "Best regards,\nMira\n\nThis e-mail is confidential and for nobody but the one it is addressed to.\n"
        "If that is not you, delete it and tell the one who sent it to you, please, as soon as you can do so.",
        "Mira Holt",
        "Mira",
    ],
)
def test_signatures_go(signature):
    cleaned = clean(f"{OWN}\n\n{signature}", author="Mira Holt")
    assert cleaned.text == OWN
    assert cleaned.taken == {SIGNATURE}


def test_thanks_stay_without_the_name_below():
    assert clean(f"{OWN}\n\nVielen Dank,\nMira Holt\nTel. +49 30 1234").text == f"{OWN}\n\nVielen Dank,"


def test_postscripts_and_references_stay():
    assert clean(f"{OWN}\n\nBest regards,\nMira\n\nP.S. It is urgent.").text == f"{OWN}\n\nP.S. It is urgent."
    assert clean(f"{OWN}\nRegards,\nMira Holt\nOrder no. 4711\nHigh Street 12").text == f"{OWN}\nOrder no. 4711"


def test_nothing_but_a_signature_leaves_nothing():
    assert clean("Best regards,\nMira").text == ""
    assert clean("> yes\n> no").text == ""


def test_signature_above_a_quote_goes_too():
    message = f"{OWN}\n\nRegards\nMira\n\n{INTRODUCTIONS[0]}\n> x"
    cleaned = clean(message.replace("\n", "\r\n"))
    assert (cleaned.text, cleaned.taken) == (OWN, {QUOTE, SIGNATURE})


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two<br>three</p>", "One\n\nTwo\nthree"),
        ("<div>One</div><div><br></div><div>Two</div>", "One\n\nTwo"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<table><tr><td>Lamp</td><td>2</td></tr><tr><td>Bulb</td><td>3</td></tr></table>", "Lamp | 2\nBulb | 3"),
        ("See <a href='https://shop.example/x'>the page</a>.", "See the page (https://shop.example/x)."),
        ("<a href='https://shop.example/'>shop.example</a>", "shop.example"),
        ("<style>p {x}</style><script>alert()</script><p>A &amp; B &lt; C&nbsp;&euro;</p>", "A & B < C\xa0€"),
        ("a<b>b</b>c  d\n e", "abc d e"),
        ("<pre>x = 1\n  y = 2</pre>", "x = 1\n  y = 2"),
        ("Yes<blockquote>No<blockquote>Old</blockquote></blockquote>", "Yes\n\n> No\n>\n> > Old"),
        ("Yes<div class='gmail_signature'>Mira</div>", "Yes"),
        ("<p>One</b></i></p></div>Two", "One\n\nTwo"),
        ("<p>open <b>never closed", "open never closed"),
    ],
)
def test_html_to_text(html, text):
    assert to_text(html) == text


def test_html_is_read_where_the_plain_body_is_empty_or_is_html():
    html = f"<div>{OWN}</div><div class='gmail_quote'><div>On x, y wrote:</div><blockquote>old</blockquote></div>"
    assert clean("", html).text == clean(html).text == OWN
    assert clean("", html).taken == {HTML, QUOTE}
    assert clean("plain", html).text == "plain"
    assert not looks_like_html("<your order> is late, and I < 3 lamps")
    assert clean("Is a <b> or a </b> right?").text == "Is a <b> or a </b> right?"


def test_a_forward_inside_html_stays():
    html = "<div>See:</div><div class='gmail_quote'>---------- Forwarded message ---------<br>Recall of a lamp</div>"
    assert clean("", html).text == "See:\n---------- Forwarded message ---------\nRecall of a lamp"


def test_deep_and_long_mail_is_read_in_time():
    assert clean("", "<div>" * 40_000 + "x" + "</b></div>" * 20_000).text == "x"
    assert clean("On " * 60_000).text
    assert clean("a:\n" * 60_000).text
    assert clean("From: x\n" * 20_000).text
    assert clean("Regards\n" * 20_000 + "Is it so?").text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("This is an automated message. Please do not reply.", ""),
        ("Dear customer,\n\nThis message was generated automatically.", ""),
        ('Request #12 "Lamp" was closed and merged into this request. Last comment in request #12:\n\nx', ""),
        ("This request was closed and merged into request #13.", ""),
        ("Your request (#12) has been received and is being reviewed by our support staff.", ""),
        ("I am away.", "Automatic reply: your lamp"),
        ("Ich bin nicht da.", "Abwesenheitsnotiz"),
        ("Dies ist eine automatisch generierte Nachricht.", ""),
        ("Ceci est un message automatique.", ""),
        ("Este es un mensaje automático.", ""),
        ("Questo è un messaggio automatico.", ""),
        ("Dit is een automatisch gegenereerd bericht.", ""),
        ("Esta é uma mensagem automática.", ""),
        ("Out of office", ""),
    ],
)
def test_automatic_messages_are_known(text, title):
    assert is_automated(text, title)


@pytest.mark.parametrize(
    "text",
    [
        "I got an automatic reply, is anybody there?",
        "Hello\nthe switch\nis automatic\nThis is an automated answer, they told me.",
        "Please merge my two requests.",
        "Our office is out of lamps.",
        "Out of office hours the lamp flickers.",
    ],
)
def test_people_who_speak_of_automatic_messages_are_not(text):
    assert not is_automated(text)


def test_mail_headers_tell_automatic_replies():
    assert is_automated("x", "", "Date: today\nAuto-Submitted: auto-replied\nTo: y")
    assert not is_automated("x", "", "Auto-Submitted: no")
