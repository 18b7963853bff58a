//! Plots of the report and of trainings: SVG text that takes its ink from the page, so that it reads on light and dark.

use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

const SIZE: (u32, u32) = (560, 260);
const COLOURS: [RGBColor; 8] = [
    RGBColor(217, 95, 2),
    RGBColor(50, 110, 180),
    RGBColor(27, 140, 100),
    RGBColor(150, 90, 170),
    RGBColor(190, 150, 20),
    RGBColor(220, 80, 130),
    RGBColor(110, 110, 110),
    RGBColor(20, 160, 180),
];

const GREY: RGBColor = RGBColor(130, 130, 130);

/// One curve of a [`lines`] plot.
pub struct Series<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
    /// What others are held against: grey and dashed, and none of the colours is its.
    is_level: bool,
}

impl<'a> Series<'a> {
    pub fn new(name: &'a str, points: Vec<(f64, f64)>) -> Self {
        Series { name, points, is_level: false }
    }

    /// A level to which others are to come.
    pub fn level(name: &'a str, points: Vec<(f64, f64)>) -> Self {
        Series { is_level: true, ..Series::new(name, points) }
    }
}

/// How many times as high as the lowest point of some curves the highest is where their axis is logarithmic.
const WIDE: f64 = 10.0;

/// Numbers at an axis, at most.
const N_MARKS: usize = 6;
/// The same where it is logarithmic.
const N_DECADES: usize = 8;

/// Ink of a picture that is a file of its own; one within a page takes the page's.
const INK: &str = "<style>svg{color:#23211e}@media(prefers-color-scheme:dark){svg{color:#dcdad5}}</style>";

/// Curves over a common axis, e.g. loss over tokens. Points that are not finite are left out; no points at all give an empty plot. Where all are above 0 and far apart the
/// y axis is logarithmic, with marks at whole decades, and says so. Several have their names in a corner.
pub fn lines(title: &str, x_label: &str, y_label: &str, series: &[Series]) -> String {
    curves(title, x_label, y_label, series, series.len() > 1)
}

/// The same without names: for plots that stand [`side_by_side`] and have them in common.
pub fn nameless(title: &str, x_label: &str, y_label: &str, series: &[Series]) -> String {
    curves(title, x_label, y_label, series, false)
}

fn curves(title: &str, x_label: &str, y_label: &str, series: &[Series], named: bool) -> String {
    let mut finite: Vec<Vec<(f64, f64)>> =
        series.iter().map(|s| s.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()).collect();
    let heights = || finite.iter().flatten().map(|p| p.1);
    let (low, high) = (heights().fold(f64::INFINITY, f64::min), heights().fold(0.0, f64::max));
    let logarithmic = low > 0.0 && high > WIDE * low;
    if logarithmic {
        finite.iter_mut().flatten().for_each(|p| p.1 = p.1.log10());
    }
    let y_label = if logarithmic { format!("{y_label}, logarithmic") } else { y_label.to_string() };
    let write_y = |v: f64| if logarithmic { short(10f64.powf(v)) } else { short(v) };
    let (x, mut y) = bounds(finite.iter().flatten().copied());
    if logarithmic && y.1.floor() - y.0.ceil() < 1.0 {
        // There is one whole decade on so short an axis: it goes on to the nearer of the two beside it.
        let (below, above) = (y.0.floor(), y.1.ceil());
        y = if y.0 - below < above - y.1 { (below, y.1) } else { (y.0, above) };
    }
    let n_y = if logarithmic { n_decades(y) } else { N_MARKS };
    plot_as(title, x_label, &y_label, x, y, ((N_MARKS, &short), (n_y, &write_y)), |chart| {
        for ((points, Series { name, .. }), (colour, width, dashed)) in finite.iter().zip(series).zip(signs(series)) {
            let style = colour.stroke_width(width);
            let drawn = if dashed {
                chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?
            };
            let dash = if dashed { 5 } else { 14 };
            drawn.label(*name).legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 14, y)], dash, 4, style));
        }
        if named {
            chart.configure_series_labels().position(emptiest(&finite, x, y)).border_style(TRANSPARENT).draw()?;
        }
        Ok(())
    })
}

/// Colour and width of the line of each, and whether it is dashed.
fn signs(series: &[Series]) -> Vec<(RGBColor, u32, bool)> {
    let mut n_curves = 0;
    let sign = |s: &Series| {
        if s.is_level {
            return (GREY, 1, true);
        }
        n_curves += 1;
        // Once every colour is taken they come again, dashed.
        (COLOURS[(n_curves - 1) % COLOURS.len()], 2, n_curves > COLOURS.len())
    };
    series.iter().map(sign).collect()
}

/// How many marks to ask for on a logarithmic axis of at least two decades so that each is a whole one: half decades would be more.
fn n_decades(y: (f64, f64)) -> usize {
    (1 + (y.1 - y.0).floor() as usize).min(N_DECADES)
}

/// The corner for the names of the curves: that with the fewest points, and halves between neighbours, on the plot from `x.0` to `x.1` and `y.0` to `y.1`.
fn emptiest(curves: &[Vec<(f64, f64)>], x: (f64, f64), y: (f64, f64)) -> SeriesLabelPosition {
    let share = |v: f64, (low, high): (f64, f64)| (v - low) / (high - low);
    let place = |p: &(f64, f64)| (share(p.0, x), share(p.1, y));
    let between = |w: &[(f64, f64)]| ((w[0].0 + w[1].0) / 2.0, (w[0].1 + w[1].1) / 2.0);
    let points: Vec<(f64, f64)> = curves.iter().flat_map(|c| c.iter().copied().chain(c.windows(2).map(between))).map(|p| place(&p)).collect();
    // Names of a dozen letters at this size, one below the other.
    let (wide, tall) = (0.33, (0.1 * curves.len() as f64).clamp(0.2, 0.5));
    let n_in = |right: bool, top: bool| {
        let within = |p: &&(f64, f64)| (if right { 1.0 - p.0 } else { p.0 }) < wide && (if top { 1.0 - p.1 } else { p.1 }) < tall;
        points.iter().filter(within).count()
    };
    let corners = [
        (n_in(true, true), SeriesLabelPosition::UpperRight),
        (n_in(true, false), SeriesLabelPosition::LowerRight),
        (n_in(false, true), SeriesLabelPosition::UpperLeft),
        (n_in(false, false), SeriesLabelPosition::LowerLeft),
    ];
    corners.into_iter().min_by_key(|corner| corner.0).expect("there are four").1
}

/// Named points, those that no other beats in both (less x, more y) joined by a line, the others grey. x is above 0 and on a logarithmic axis, with a line at
/// `limit`. Points that are not finite are left out.
pub fn pareto(title: &str, x_label: &str, y_label: &str, points: &[(f64, f64, String)], limit: f64) -> String {
    let points: Vec<(f64, f64, &str)> =
        points.iter().filter(|p| p.0 > 0.0 && p.0.is_finite() && p.1.is_finite()).map(|p| (p.0.ln(), p.1, p.2.as_str())).collect();
    let beaten = |p: &(f64, f64, &str)| points.iter().any(|q| q.0 <= p.0 && q.1 >= p.1 && (q.0 < p.0 || q.1 > p.1));
    let mut front: Vec<(f64, f64)> = points.iter().filter(|p| !beaten(p)).map(|p| (p.0, p.1)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (x, y) = bounds(points.iter().map(|p| (p.0, p.1)).chain([(limit.ln(), 0.0), (0.0, 0.0)]));
    // Room for the names at both ends.
    let air = 0.06 * (x.1 - x.0);
    plot_as(title, x_label, y_label, (x.0 - air, x.1 + air), y, ((N_MARKS, &|v| short(v.exp())), (N_MARKS, &short)), |chart| {
        chart.draw_series(LineSeries::new([(limit.ln(), y.0), (limit.ln(), y.1)], COLOURS[6].mix(0.6).stroke_width(1)))?;
        chart.draw_series(LineSeries::new(front, COLOURS[0].stroke_width(2)))?;
        chart.draw_series(points.iter().map(|p| Circle::new((p.0, p.1), 4, COLOURS[if beaten(p) { 6 } else { 0 }].filled())))?;
        let name = |p: &(f64, f64, &str)| EmptyElement::at((p.0, p.1)) + Text::new(p.2.to_string(), (6, -12), ("sans-serif", 12));
        chart.draw_series(points.iter().map(name)).map(drop)
    })
}

/// Named bars from 0, the first at the top: to the right what is above 0, to the left what is below.
pub fn bars(title: &str, x_label: &str, bars: &[(String, f64)]) -> String {
    let finite: Vec<&(String, f64)> = bars.iter().filter(|b| b.1.is_finite()).collect();
    let low = finite.iter().map(|b| b.1).fold(0.0, f64::min);
    let high = finite.iter().map(|b| b.1).fold(0.0, f64::max);
    let air = ((high - low) * 0.12).max(1e-9);
    let n = finite.len().max(1) as f64;
    plot(title, x_label, "", (low - air, high + air), (0.0, n), |chart| {
        let place = |i: usize| n - 1.0 - i as f64;
        let bar = |(i, b): (usize, &&(String, f64))| {
            let colour = COLOURS[if b.1 < 0.0 { 1 } else { 0 }];
            Rectangle::new([(0.0, place(i) + 0.1), (b.1, place(i) + 0.9)], colour.mix(0.85).filled())
        };
        chart.draw_series(finite.iter().enumerate().map(bar))?;
        let name =
            |(i, b): (usize, &&(String, f64))| Text::new(b.0.clone(), (if b.1 < 0.0 { 0.0 } else { b.1 }, place(i) + 0.85), ("sans-serif", 11));
        chart.draw_series(finite.iter().enumerate().map(name)).map(drop)
    })
}

/// Plots in rows of so many, as one picture for a file. `series` are the curves that they have in common: several are named once, below all.
pub fn side_by_side(plots: &[String], in_a_row: usize, series: &[Series]) -> String {
    let (width, height) = SIZE;
    let place = |(i, plot): (usize, &String)| {
        let (x, y) = ((i % in_a_row) as u32 * width, (i / in_a_row) as u32 * height);
        plot.replacen("<svg ", &format!("<svg x=\"{x}\" y=\"{y}\" "), 1)
    };
    let (w, h) = (width * in_a_row.min(plots.len()) as u32, height * plots.len().div_ceil(in_a_row) as u32);
    let inside: String = plots.iter().enumerate().map(place).collect();
    let (names, below) = if series.len() > 1 { names(series, w, h) } else { Default::default() };
    let h = h + below;
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">{INK}\n{inside}{names}</svg>\n")
}

/// Names of curves beside their signs, from `top` down in rows of this width, and how high they are together.
fn names(series: &[Series], width: u32, top: u32) -> (String, u32) {
    const LEFT: u32 = 20;
    const ROW: u32 = 20;
    let (mut drawn, mut x, mut y) = (String::new(), LEFT, top + ROW / 2);
    for (s, (RGBColor(r, g, b), line, dashed)) in series.iter().zip(signs(series)) {
        // The sign, the letters at this size or somewhat less, air.
        let wide = 20 + 7 * s.name.chars().count() as u32 + 24;
        if x > LEFT && x + wide > width {
            (x, y) = (LEFT, y + ROW);
        }
        let dash = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let name = s.name.replace('&', "&amp;").replace('<', "&lt;");
        drawn += &format!(
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#{r:02X}{g:02X}{b:02X}\" stroke-width=\"{line}\"{dash}/>\n\
             <text x=\"{}\" y=\"{}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">{name}</text>\n",
            x + 14,
            x + 20,
            y + 4
        );
        x += wide;
    }
    (drawn, y + ROW / 2 - top)
}

/// Bars of a histogram: `edges` has one element more than `counts`.
pub fn histogram(title: &str, x_label: &str, y_label: &str, edges: &[f64], counts: &[f64]) -> String {
    assert_eq!(edges.len(), counts.len() + 1, "a histogram of {} bars has {} edges", counts.len(), edges.len());
    let top = counts.iter().copied().fold(1.0, f64::max);
    plot(title, x_label, y_label, (edges[0], edges[counts.len()]), (0.0, top * 1.05), |chart| {
        let bar = |(i, &n): (usize, &f64)| Rectangle::new([(edges[i], 0.0), (edges[i + 1], n)], COLOURS[0].mix(0.8).filled());
        chart.draw_series(counts.iter().enumerate().map(bar)).map(drop)
    })
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// An empty plot with its axes and grid, that `draw` fills.
fn plot(title: &str, x_label: &str, y_label: &str, x: (f64, f64), y: (f64, f64), draw: impl for<'a> FnOnce(&mut Chart<'a>) -> Drawn) -> String {
    plot_as(title, x_label, y_label, x, y, ((N_MARKS, &short), (N_MARKS, &short)), draw)
}

/// Numbers at an axis: how many at most, and how one is written.
type Marks<'a> = (usize, &'a dyn Fn(f64) -> String);

/// The same with these marks at the x and at the y axis.
fn plot_as(
    title: &str,
    x_label: &str,
    y_label: &str,
    x: (f64, f64),
    y: (f64, f64),
    ((n_x, write_x), (n_y, write_y)): (Marks, Marks),
    draw: impl for<'a> FnOnce(&mut Chart<'a>) -> Drawn,
) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .expect("the drawing area is larger than its labels");
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(x_label)
            .y_desc(y_label)
            .x_labels(n_x)
            .y_labels(n_y)
            .x_label_formatter(&|v| write_x(*v))
            .y_label_formatter(&|v| write_y(*v))
            .draw()
            .and_then(|()| draw(&mut chart))
            .expect("drawing into a string cannot fail");
    }
    // Ink of the page, so that it reads on light and dark.
    svg.replace("#000000", "currentColor")
}

/// Range of each axis with a little air; a single point still gets an interval.
fn bounds(points: impl Iterator<Item = (f64, f64)>) -> ((f64, f64), (f64, f64)) {
    let mut x = (f64::INFINITY, f64::NEG_INFINITY);
    let mut y = x;
    for (a, b) in points {
        x = (x.0.min(a), x.1.max(a));
        y = (y.0.min(b), y.1.max(b));
    }
    let airy = |(low, high): (f64, f64), share: f64| {
        if low > high {
            return (0.0, 1.0);
        }
        let air = match high - low {
            0.0 => 0.5,
            // Marks of three digits would all read alike.
            range if share > 0.0 && range < 0.01 * high.abs() => 0.01 * high.abs(),
            range => range * share,
        };
        // Shares and losses are not drawn below zero.
        let below = if low >= 0.0 { (low - air).max(0.0) } else { low - air };
        (below, high + air)
    };
    (airy(x, 0.0), airy(y, 0.06))
}

/// Three digits at most: 1234567 -> 1.23M, 0.0150 -> 0.015, 0.00012 -> 1.2e-4.
fn short(v: f64) -> String {
    let digits = |v: f64| {
        let decimals = (2.0 - v.abs().log10().floor()).clamp(0.0, 5.0) as usize;
        let all = format!("{v:.decimals$}");
        if all.contains('.') { all.trim_end_matches('0').trim_end_matches('.').to_string() } else { all }
    };
    match v.abs() {
        m if m < 1e-12 => "0".into(),
        m if m >= 1e6 => format!("{}M", digits(v / 1e6)),
        m if m >= 1e4 => format!("{}k", digits(v / 1e3)),
        m if m >= 1e-3 => digits(v),
        _ => format!("{v:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_curves_and_takes_ink_from_the_page() {
        let svg =
            lines("loss", "tokens", "nats", &[Series::new("train", vec![(0.0, 3.0), (1e6, 2.0), (2e6, f64::NAN)]), Series::new("held out", vec![])]);
        assert!(svg.contains("held out") && svg.contains("currentColor") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn curves_that_fall_far_are_drawn_on_a_logarithmic_axis_unless_one_is_not_above_zero() {
        let plot = |last: f64| lines("t", "x", "loss", &[Series::new("a", vec![(0.0, 100.0), (1.0, 2.0), (2.0, last)])]);
        let (far, near, below) = (plot(1.0), lines("t", "x", "loss", &[Series::new("a", vec![(0.0, 100.0), (1.0, 20.0)])]), plot(-1.0));
        assert!(far.contains("loss, logarithmic") && far.contains("\n10\n") && far.contains("\n100\n"), "{far}");
        assert!(!near.contains("logarithmic"), "{near}");
        assert!(!below.contains("logarithmic"), "{below}");
    }

    #[test]
    fn a_logarithmic_axis_is_marked_at_whole_decades_and_at_two_of_them_at_least() {
        let plot = |low: f64, high: f64| lines("t", "x", "loss", &[Series::new("a", vec![(0.0, high), (7e5, low)])]);
        // From 0.30 to 2.04 in decades, from -2.70 to -0.82, from -1.30 to 0.24, then one whole decade alone, nearer to that below and to that
        // above; from 0.10 to 2.89, and twelve of them.
        for (low, high, marks) in [
            (2.0, 110.0, &["10", "100"][..]),
            (0.002, 0.15, &["0.01", "0.1"]),
            (0.05, 1.75, &["0.1", "1"]),
            (0.15, 1.75, &["0.1", "1"]),
            (0.6, 7.5, &["1", "10"]),
            (1.25, 780.0, &["10", "100"]),
            (1.0, 1e12, &["1", "100", "1M"]),
        ] {
            let svg = plot(low, high);
            assert!(svg.contains("logarithmic") && marks.iter().all(|mark| svg.contains(&format!("\n{mark}\n"))), "{low} to {high}: {svg}");
            assert!(["\n3.16\n", "\n31.6\n", "\n316\n", "\n0.0316\n", "\n0.316\n"].iter().all(|mark| !svg.contains(*mark)), "{low} to {high}: {svg}");
        }
    }

    #[test]
    fn the_ninth_curve_has_the_colour_of_the_first_and_is_dashed() {
        let of = |n: usize| {
            let series: Vec<Series> = (0..n).map(|i| Series::new("a", vec![(0.0, i as f64), (1.0, 9.0)])).collect();
            lines("t", "x", "y", &series).matches("stroke=\"#D95F02\"").count()
        };
        // The line and its sign beside the name; then also as many pieces as a line of some hundred pixels has.
        assert_eq!(of(8), 2);
        assert!(of(9) > 20, "{}", of(9));
    }

    #[test]
    fn a_level_takes_no_colour_and_marks_that_would_read_alike_are_spread() {
        let curve = |name| Series::new(name, vec![(0.0, 9.0), (1.0, 9.003)]);
        let colours = |svg: &str| COLOURS.map(|RGBColor(r, g, b)| svg.contains(&format!("stroke=\"#{r:02X}{g:02X}{b:02X}\"")));
        let svg = lines("t", "x", "y", &[curve("a"), Series::level("target 9", vec![(0.0, 9.0), (1.0, 9.0)]), curve("b")]);
        assert_eq!(colours(&svg)[..3], [true, true, false], "{svg}");
        assert!(svg.contains("target 9") && svg.matches("stroke=\"#828282\"").count() > 20, "{svg}");
        assert!(svg.matches("\n9\n").count() == 1 && svg.contains("\n9.05\n"), "{svg}");
    }

    #[test]
    fn names_stand_where_no_curve_is() {
        use std::mem::discriminant as which;
        let falling = vec![(0.0, 1.0), (0.1, 0.2), (1.0, 0.1)];
        let rising = vec![(0.0, 0.0), (0.1, 0.9), (1.0, 1.0)];
        for (curves, corner) in [
            (vec![falling.clone()], SeriesLabelPosition::UpperRight),
            (vec![rising.clone()], SeriesLabelPosition::LowerRight),
            (vec![falling, rising, vec![(0.7, 0.5), (0.9, 0.8)]], SeriesLabelPosition::LowerRight),
            (vec![], SeriesLabelPosition::UpperRight),
        ] {
            assert_eq!(which(&emptiest(&curves, (0.0, 1.0), (0.0, 1.0))), which(&corner), "{curves:?}");
        }
    }

    #[test]
    fn plots_side_by_side_are_one_picture_with_each_in_its_place() {
        let one = lines("t", "x", "y", &[Series::new("a", vec![(0.0, 1.0), (1.0, 2.0)])]);
        let all = side_by_side(&[one.clone(), one.clone(), one], 2, &[]);
        assert!(
            all.contains("viewBox=\"0 0 1120 520\"") && all.contains("<svg x=\"560\" y=\"0\"") && all.contains("<svg x=\"0\" y=\"260\""),
            "{all}"
        );
        assert_eq!((all.matches("<svg ").count(), all.matches("</svg>").count()), (4, 4));
        assert!(all.contains("prefers-color-scheme:dark"), "a file has no page to take its ink from");
    }

    #[test]
    fn plots_side_by_side_name_their_curves_once_below_all() {
        let curve = |name| Series::new(name, vec![(0.0, 1.0), (1.0, 2.0)]);
        let series = [curve("a & b"), Series::level("target 8", vec![(0.0, 1.5), (1.0, 1.5)])];
        let bare = nameless("t", "x", "y", &series);
        let all = side_by_side(&[bare.clone(), bare.clone()], 2, &series);
        assert_eq!(["a &amp; b", "target 8"].map(|name| (bare.matches(name).count(), all.matches(name).count())), [(0, 1), (0, 1)], "{all}");
        // A row of 20 below the 260 of the plots; with ten names of ten letters, 114 wide each, two rows.
        assert!(all.contains("viewBox=\"0 0 1120 280\""), "{all}");
        let ten: Vec<Series> = (0..10).map(|_| curve("abcdefghij")).collect();
        assert!(side_by_side(&[bare.clone(), bare.clone()], 2, &ten).contains("viewBox=\"0 0 1120 300\""));
        assert!(!side_by_side(&[bare], 2, &series[..1]).contains("a &amp; b"), "one curve needs no name");
    }

    #[test]
    fn an_empty_plot_and_a_single_bar_are_drawn() {
        assert!(lines("t", "x", "y", &[]).contains("</svg>"));
        assert!(histogram("t", "x", "y", &[0.0, 1.0], &[0.0]).contains("</svg>"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 1_250_000.0, 12_345.0, 3.149, 0.00012].map(short), ["0", "1.25M", "12.3k", "3.15", "1.2e-4"]);
        // Marks of an axis are told apart.
        assert_eq!([0.005, 0.01, 0.015, 0.5, 1.0, 1.25, 100.0, 2e6].map(short), ["0.005", "0.01", "0.015", "0.5", "1", "1.25", "100", "2M"]);
    }
}
