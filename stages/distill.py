"""Trains the xERM student of one seed with one teacher: a row of methods, whose logits are the balanced view.

python -m stages.distill pc --seed 0
"""

from lt import artifacts, launch, params
from lt.base import device, predict, specification, training_part
from lt.classifier import write_classifier
from lt.command import arguments, run
from lt.distill import read_teacher, train_student
from lt.index import open_dataset
from lt.subset import read_subset


def main() -> None:
    args = arguments(__doc__, "teacher")
    settings = params.load()
    settings.expect("teachers", args.teacher)
    launch.start()
    part = training_part(open_dataset(settings, "train"), read_subset(), device())
    test = open_dataset(settings, "test", check="none")
    teacher = read_teacher(args.teacher, args.seed, part)

    trained = train_student(settings, part, args.teacher, teacher, args.seed, test)
    launch.finish()

    with artifacts.writing(artifacts.stage_dir("distill", args.teacher, args.seed)) as folder:
        write_classifier(folder, trained.model, specification(settings, part), trained.logit_prior)
        artifacts.write_log(folder / "log.csv", trained.log)
        artifacts.write_array(folder / "test_logits.npy", predict(trained.model, test, part.images.device))
    trained.state.clear()


if __name__ == "__main__":
    run(main)
