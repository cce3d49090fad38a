"""The survey over HTTP: many raters, every mistake and trick, and who sees what."""

import http.client
import re
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests
from PIL import Image
from survey_server import (
    find_token,
    identify,
    opinion,
    rate_photos,
    save_photos,
    serve,
)

from colorgan_jax.survey.database import read_ratings


def start(url):
    """A new rater: the browser's session and its first page."""
    session = requests.Session()
    return session, session.post(f"{url}/start").text


def read_rows(folder, query, *values):
    with closing(sqlite3.connect(folder / "survey.db")) as connection:
        return connection.execute(query, values).fetchall()


def test_a_whole_session_is_kept_as_it_was_rated(tmp_path):
    save_photos(tmp_path)
    with serve(tmp_path) as url:
        session = requests.Session()
        welcome = session.get(url)
        assert "10 photos" in welcome.text and not session.cookies
        page = session.post(f"{url}/start").text
        for number in range(1, 11):
            assert f"<title>Photo {number} of 10</title>" in page
            assert "How realistic are the colors of this photo?" in page
            assert session.get(url).text == page  # an open one goes on where it was
            rate_photos(url, session, page, stop=1)
            page = session.get(f"{url}/rate").text
        assert "<title>Thank you</title>" in page and session.get(url).text == page
    ratings = read_ratings(tmp_path / "survey.db")
    assert ratings.ratings.tolist() == [[opinion(name) for name in ratings.names]]
    assert sorted(ratings.ratings[0]) == sorted([1, 2, 3, 4, 5] * 2)
    assert [name.startswith("real") for name in ratings.names] == list(ratings.is_real)


def test_fifty_raters_at_once(tmp_path):
    save_photos(tmp_path)

    def rate(_):
        session, page = start(url)
        return tuple(rate_photos(url, session, page, stop=10))

    with serve(tmp_path) as url, ThreadPoolExecutor(50) as threads:
        orders = list(threads.map(rate, range(50)))
    assert len(set(orders)) == 50
    assert all(len(set(order)) == 10 for order in orders)
    ratings = read_ratings(tmp_path / "survey.db")
    expected = [opinion(name) for name in ratings.names]
    assert ratings.ratings.tolist() == [expected] * 50 and ratings.unfinished == 0


def test_double_submissions_count_once(survey):
    folder, url = survey
    session, page = start(url)
    token = find_token(page)

    def submit(rating):
        data = {"photo": token, "rating": rating}
        cookies = session.cookies.get_dict()
        return requests.post(f"{url}/rate", data=data, cookies=cookies).text

    with ThreadPoolExecutor(10) as threads:
        pages = set(threads.map(submit, [1, 2, 3, 4, 5] * 2))
    (page,) = pages
    assert "Photo 2 of 10" in page
    query = "SELECT rating FROM trials WHERE token = ?"
    (first,) = read_rows(folder, query, token)
    for rating in (1, 5):  # much later, as with the Back button
        assert submit(rating) == page
    assert read_rows(folder, query, token) == [first]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"rating": "0"}, 400),
        ({"rating": "6"}, 400),
        ({"rating": "-1"}, 400),
        ({"rating": "3.0"}, 400),
        ({"rating": " 3"}, 400),
        ({"rating": "\N{FULLWIDTH DIGIT THREE}"}, 400),
        ({"rating": ["3", "4"]}, 400),
        ({"rating": ""}, 400),
        ({}, 400),
        ({"rating": "3", "photo": ""}, 404),
        ({"rating": "3", "photo": "A" * 22}, 404),
        ({"rating": "3", "photo": "' OR 1=1 --"}, 404),
        ({"rating": "3", "photo": "A" * 1025}, 413),
    ],
)
def test_what_is_no_rating_of_this_photo_is_refused(survey, data, status):
    folder, url = survey
    session, page = start(url)
    token = find_token(page)
    reply = session.post(f"{url}/rate", data={"photo": token, **data})
    assert reply.status_code == status
    assert reply.headers["Content-Type"].startswith("text/html")
    assert "Something went wrong" in reply.text
    query = "SELECT rating FROM trials WHERE token = ?"
    assert read_rows(folder, query, token) == [(None,)]
    assert session.get(f"{url}/rate").text == page


def test_raters_cannot_touch_each_other(survey):
    folder, url = survey
    (one, one_page), (other, _) = start(url), start(url)
    token = find_token(one_page)
    assert one.get(f"{url}/photo/{token}").status_code == 200
    assert other.get(f"{url}/photo/{token}").status_code == 404
    data = {"photo": token, "rating": 1}
    assert other.post(f"{url}/rate", data=data).status_code == 404
    query = "SELECT rating FROM trials WHERE token = ?"
    assert read_rows(folder, query, token) == [(None,)]
    before = read_rows(folder, "SELECT count(*) FROM raters")

    (name,) = one.cookies.keys()
    for cookies in ({}, {name: "forged"}, {name: ""}, {"rater": one.cookies[name]}):
        for reply in (
            requests.post(f"{url}/rate", data=data, cookies=cookies),
            requests.get(f"{url}/rate", cookies=cookies),
            requests.get(f"{url}/photo/{token}", cookies=cookies),
        ):
            assert reply.status_code == 403 and "Allow cookies" in reply.text
        assert "Start" in requests.get(url, cookies=cookies).text
    assert read_rows(folder, query, token) == [(None,)]
    assert read_rows(folder, "SELECT count(*) FROM raters") == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/start", 405),
        ("POST", "/", 405),
        ("PUT", "/rate", 405),
        ("DELETE", "/rate", 405),
        ("POST", "/photo/x", 405),
        ("GET", "/survey.db", 404),
        ("GET", "/photo/", 404),
        ("GET", "/static/../frame.html", 404),
        ("GET", "/static/%2e%2e/frame.html", 404),
        ("GET", "/static/", 404),
    ],
)
def test_other_methods_and_paths(url, method, path, status):
    with closing(http.client.HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.request(method, path)  # unlike requests, it leaves `..` as it is
        reply = connection.getresponse()
        assert reply.status == status
        assert b"There is no such page." in reply.read()
        if path == "/rate":
            assert set(reply.headers["Allow"].split(", ")) >= {"GET", "POST"}


def test_an_endless_body_is_cut_off(url):
    session, _ = start(url)
    (cookie,) = session.cookies.items()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            f"POST /rate HTTP/1.1\r\nHost: {host}\r\nCookie: {'='.join(cookie)}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n401\r\n".encode()
        )
        connection.sendall(b"x" * 1025 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):  # closed by the server
            for _ in range(1000):
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def test_a_browser_that_goes_away_leaves_no_noise(url, caplog):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /rate HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nrating="
        )
        time.sleep(0.2)
    time.sleep(0.2)
    assert requests.get(url).status_code == 200
    assert "Exception" not in caplog.text and "ERROR" not in caplog.text


def test_every_response_has_the_headers_that_keep_raters_safe(url):
    session, page = start(url)
    paths = ["/", "/rate", f"/photo/{find_token(page)}", "/static/survey.js", "/none"]
    for reply in [session.get(url + path) for path in paths]:
        headers = reply.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers


def test_the_cookie_is_private_and_lasting(url):
    reply = requests.post(f"{url}/start", allow_redirects=False)
    assert reply.status_code == 303 and reply.headers["Location"] == "/rate"
    cookie = reply.headers["Set-Cookie"]
    assert re.fullmatch(
        r"rater-[0-9a-f]{8}=[\w-]{43}; HttpOnly; Max-Age=31536000; Path=/; SameSite=lax",
        cookie,
    )
    # Started again, it is the same rater.
    session, page = start(url)
    again = session.post(f"{url}/start")
    assert again.text == page and "Set-Cookie" not in again.history[0].headers


def test_two_surveys_on_one_machine_share_a_browser(url, tmp_path):
    save_photos(tmp_path)
    with serve(tmp_path) as other_url:
        session, page = start(url)
        other_page = session.post(f"{other_url}/start").text
        assert find_token(page) != find_token(other_page)
        assert session.get(f"{url}/rate").text == page
        assert session.get(f"{other_url}/rate").text == other_page


def test_real_and_generated_cannot_be_told_apart(tmp_path):
    save_photos(tmp_path)
    exif = Image.Exif()
    exif[0x010F] = "A camera maker"
    for path in (tmp_path / "real").iterdir():  # noise, so larger when compressed
        Image.open(path).save(path, exif=exif, dpi=(72, 72))
    sizes = {path.stat().st_size for path in tmp_path.glob("*/*.png")}
    assert len(sizes) > 1
    photos, pages, lengths = {}, set(), set()
    with serve(tmp_path) as url:
        session, page = start(url)
        while "Thank you" not in page:
            token = find_token(page)
            reply = session.get(f"{url}/photo/{token}")
            # As sent: the order and the spelling of the headers, too.
            headers = [item for item in reply.headers.items() if item[0] != "date"]
            photos[identify(reply.content)] = (reply.status_code, *headers)
            lengths.add(len(reply.content))
            chunks = re.findall(rb"IHDR|IDAT|IEND|[a-z][A-Za-z]{3}", reply.content)
            assert chunks[0] == b"IHDR" and b"camera" not in reply.content
            assert not {b"tEXt", b"eXIf", b"pHYs", b"iCCP", b"tIME"} & set(chunks)
            for secret in ("real-", "generated-", str(tmp_path)):
                assert secret not in page
            pages.add(
                re.sub(r"Photo \d+|value=\"\d\" max", "", page.replace(token, ""))
            )
            page = session.post(f"{url}/rate", data={"photo": token, "rating": 3}).text
    assert len(photos) == 10
    assert len(set(photos.values())) == 1 and len(lengths) == 1 and len(pages) == 1


def test_a_rater_goes_on_after_a_restart(tmp_path):
    save_photos(tmp_path)
    with serve(tmp_path) as url:
        session, page = start(url)
        names = rate_photos(url, session, page, stop=4)
    with serve(tmp_path) as url:
        page = session.get(url).text
        assert "Photo 5 of 10" in page
        names += rate_photos(url, session, page, stop=6)
    assert len(set(names)) == 10
    with serve(tmp_path) as url:
        assert "Thank you" in session.get(url).text
    assert len(read_ratings(tmp_path / "survey.db").ratings) == 1
